"""Addressing, reading and writing an external memory of N rows.

Source: Graves et al. 2014, "Neural Turing Machines", sec. 3. A head's new weights over the rows are
a chain of four steps, each a function here, the softmax of the first being `attention.soft`:

    similarity -> interpolate -> shift -> sharpen

The paper's N x M matrix is its transpose here, `[*B, M, N]`, with weights of H heads `[*B, H, N]`:
what a step does to all rows at once then runs along numbers that lie side by side. A head is a
query, a row is a key and a value: to read is `attention.read` of the matrix as in the paper.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from attention.alignments import soft
from attention.scores import inverse_norm

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
    memory: Float[Array, "*B M N"], previous: Float[Array, "*B H N"], heads: Addressing
) -> Float[Array, "*B H N"]:
    """New weights of H heads over the rows of a memory.

    Source: Graves et al. 2014, fig. 2.

    Args:
        memory: `[*B, M, N]`.
        previous: weights before, `[*B, H, N]`.
        heads: what the controller asks for.

    Returns:
        Weights `[*B, H, N]` in float32; those of a head sum to one.
    """
    found = soft(similarity(heads.key, memory, heads.strength))
    gated = interpolate(found, previous, heads.gate)
    return sharpen(shift(gated, heads.shift), heads.sharpness)


def similarity(
    keys: Float[Array, "*B H M"], memory: Float[Array, "*B M N"], strength: Float[Array, "*B H"]
) -> Float[Array, "*B H N"]:
    """`β K[k, M(i)]`, the score `content` of what each head looks for with each row (eq. 5 and 6).

    Args:
        keys: k, one for each head.
        memory: `[*B, M, N]`.
        strength: β, one for each head.

    Returns:
        Logits `[*B, H, N]` in float32.
    """
    dots = jnp.einsum("...hm,...mn->...hn", keys, memory, preferred_element_type=jnp.float32)
    scale = strength.astype(jnp.float32) * inverse_norm(keys, axis=-1)
    return dots * scale[..., None] * inverse_norm(memory, axis=-2)[..., None, :]


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
    memory: Float[Array, "*B M N"],
    weights: Float[Array, "*B H N"],
    erase: Float[Array, "*B H M"],
    add: Float[Array, "*B H M"],
) -> Float[Array, "*B M N"]:
    """Every head erases, then every head adds: `M(i) Π_h (1 - w_h(i) e_h) + Σ_h w_h(i) a_h`.

    Source: Graves et al. 2014, eq. 3 and 4, and the remark on several heads below them.

    Args:
        memory: `[*B, M, N]`.
        weights: of H writing heads, `[*B, H, N]`.
        erase: e in (0, 1), `[*B, H, M]`.
        add: a, `[*B, H, M]`.

    Returns:
        The new memory `[*B, M, N]`.
    """
    weights, erase, add = (x.astype(memory.dtype) for x in (weights, erase, add))
    for head in range(weights.shape[-2]):
        memory = _erase(memory, weights[..., head, :], erase[..., head, :])
    return memory + jnp.einsum("...hm,...hn->...mn", add, weights)


@jax.custom_vjp
def _erase(memory, weights, erase):
    """`M (1 - e w^T)`, of one head."""
    return memory * (1 - erase[..., None] * weights[..., None, :])


def _erase_forward(memory, weights, erase):
    return _erase(memory, weights, erase), (memory, weights, erase)


def _erase_backward(residuals, g):
    """Sums over rows and columns as products of matrices, not of what was broadcast."""
    memory, weights, erase = residuals
    lost = -g * memory
    return (
        g * (1 - erase[..., None] * weights[..., None, :]),
        jnp.einsum("...mn,...m->...n", lost, erase),
        jnp.einsum("...mn,...n->...m", lost, weights),
    )


_erase.defvjp(_erase_forward, _erase_backward)
