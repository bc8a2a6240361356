"""Addressing, reading and writing an external memory of N rows.

Source: Graves et al. 2014, "Neural Turing Machines", sec. 3. A head's new weights over the rows are
a chain of four steps, each a function here or a score:

    content -> interpolate -> shift -> sharpen

Memory is `[*B, N, M]`, weights of H heads are `[*B, H, N]`: a head is a query, a row is a key. To
read is `attention.read`.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from attention.alignments import soft
from attention.scores import content

# The least weight whose logarithm is taken: no float32 result can tell a smaller one from zero.
TINY = 1e-37


class Addressing(NamedTuple):
    """What a controller says to each of H heads (sec. 3.3).

    Attributes:
        key: k, compared with every row.
        strength: β > 0, of the comparison.
        gate: g in (0, 1), 1 to look by content, 0 to stay where the head was.
        shift: s, a distribution over shifts by -R ... R rows.
        sharpness: γ >= 1.
    """

    key: Float[Array, "*B H M"]
    strength: Float[Array, "*B H"]
    gate: Float[Array, "*B H"]
    shift: Float[Array, "*B H J"]
    sharpness: Float[Array, "*B H"]


def address(
    memory: Float[Array, "*B N M"], previous: Float[Array, "*B H N"], heads: Addressing
) -> Float[Array, "*B H N"]:
    """New weights of H heads over the rows of a memory.

    Source: Graves et al. 2014, fig. 2.

    Args:
        memory: `[*B, N, M]`.
        previous: weights before, `[*B, H, N]`.
        heads: what the controller asks for.

    Returns:
        Weights `[*B, H, N]` in float32; those of a head sum to one.
    """
    found = soft(content(heads.key, memory, heads.strength))
    gated = interpolate(found, previous, heads.gate)
    return sharpen(shift(gated, heads.shift), heads.sharpness)


def interpolate(
    found: Float[Array, "*B H N"], previous: Float[Array, "*B H N"], gate: Float[Array, "*B H"]
) -> Float[Array, "*B H N"]:
    """`g w^c + (1 - g) w_{t-1}`: by content, or where the head was (eq. 7).

    Args:
        found: weights by content.
        previous: weights before.
        gate: g, one for each head.

    Returns:
        Weights of the inputs' shape.
    """
    return previous + gate[..., None] * (found - previous)


def shift(
    weights: Float[Array, "*B H N"], shifts: Float[Array, "*B H J"]
) -> Float[Array, "*B H N"]:
    """Circular convolution, `w(i) = Σ_j w(j) s(i - j)`: moves the focus by some rows (eq. 8).

    Args:
        weights: `[*B, H, N]`.
        shifts: `[*B, H, J]`, weights of the shifts by -R ... R, J = 2R + 1 of them. A shift of 1
            leads from row i to row i + 1, and from the last to the first.

    Returns:
        Weights `[*B, H, N]`.

    Raises:
        ValueError: for an even number of shifts, of which none is in the middle.
    """
    if shifts.shape[-1] % 2 == 0:
        raise ValueError(f"shifts are by -R ... R, an odd number, not {shifts.shape[-1]}")
    radius = shifts.shape[-1] // 2
    moved = jnp.zeros_like(weights)
    for j in range(2 * radius + 1):
        moved += shifts[..., j, None] * jnp.roll(weights, j - radius, axis=-1)
    return moved


def sharpen(
    weights: Float[Array, "*B H N"], sharpness: Float[Array, "*B H"]
) -> Float[Array, "*B H N"]:
    """`w(i)^γ / Σ_j w(j)^γ`: undoes the blur that shifts leave (eq. 9).

    By logarithms, in which the power of a small weight does not vanish.

    Args:
        weights: `[*B, H, N]`, not negative.
        sharpness: γ >= 1, one for each head.

    Returns:
        Weights `[*B, H, N]` in float32, which sum to one.
    """
    logs = jnp.log(jnp.maximum(weights.astype(jnp.float32), TINY))
    return soft(sharpness[..., None].astype(jnp.float32) * logs)


def write(
    memory: Float[Array, "*B N M"],
    weights: Float[Array, "*B H N"],
    erase: Float[Array, "*B H M"],
    add: Float[Array, "*B H M"],
) -> Float[Array, "*B N M"]:
    """Every head erases, then every head adds: `M(i) Π_h (1 - w_h(i) e_h) + Σ_h w_h(i) a_h`.

    Source: Graves et al. 2014, eq. 3 and 4, and the remark on several heads below them.

    Args:
        memory: `[*B, N, M]`.
        weights: of H writing heads, `[*B, H, N]`.
        erase: e in (0, 1), `[*B, H, M]`.
        add: a, `[*B, H, M]`.

    Returns:
        The new memory `[*B, N, M]`.
    """
    weights, erase, add = (x.astype(memory.dtype) for x in (weights, erase, add))
    for head in range(weights.shape[-2]):
        memory = _erase(memory, weights[..., head, :], erase[..., head, :])
    return memory + jnp.einsum("...hn,...hm->...nm", weights, add)


@jax.custom_vjp
def _erase(memory, weights, erase):
    """`M (1 - w e^T)`, of one head."""
    return memory * (1 - weights[..., None] * erase[..., None, :])


def _erase_forward(memory, weights, erase):
    return _erase(memory, weights, erase), (memory, weights, erase)


def _erase_backward(residuals, g):
    """Sums over rows and columns as products of matrices, not of what was broadcast."""
    memory, weights, erase = residuals
    lost = -g * memory
    return (
        g * (1 - weights[..., None] * erase[..., None, :]),
        jnp.einsum("...nm,...m->...n", lost, erase),
        jnp.einsum("...nm,...n->...m", lost, weights),
    )


_erase.defvjp(_erase_forward, _erase_backward)
