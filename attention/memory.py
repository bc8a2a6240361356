"""Addressing and writing an external memory of N rows.

Source: Graves et al. 2014, "Neural Turing Machines", sec. 3. The addressing mechanism is a chain of
four functions (fig. 2); `attention.soft` normalizes the result of `similarity`:

    similarity -> interpolate -> shift -> sharpen

The N x M memory matrix of the paper is stored transposed, `[*B, M, N]`, with weightings of H heads
`[*B, H, N]`, so that operations over all rows read contiguous memory. Reading is `attention.read`
of the weightings and the N x M matrix: a head is a query, and a row is both key and value.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from attention.alignments import soft
from attention.scores import inverse_norm

# Lower bound of weights before the logarithm; smaller weights have no effect in float32.
TINY = 1e-37


class HeadParameters(NamedTuple):
    """Addressing parameters of H heads, emitted by the controller (sec. 3.3).

    Attributes:
        key: k, compared with every row.
        strength: β > 0, key strength.
        gate: g in (0, 1), interpolation gate: 1 for content-based addressing, 0 for the previous
            weighting.
        shift: s, distribution over shifts by -R ... R rows.
        sharpness: γ >= 1.
    """

    key: Float[Array, "*B H M"]
    strength: Float[Array, "*B H"]
    gate: Float[Array, "*B H"]
    shift: Float[Array, "*B H J"]
    sharpness: Float[Array, "*B H"]


def address(
    memory: Float[Array, "*B M N"], previous: Float[Array, "*B H N"], heads: HeadParameters
) -> Float[Array, "*B H N"]:
    """Weightings of H heads over the rows of a memory.

    Source: Graves et al. 2014, fig. 2.

    Args:
        memory: `[*B, M, N]`.
        previous: weightings of the previous step, `[*B, H, N]`.
        heads: addressing parameters.

    Returns:
        Weightings `[*B, H, N]` in float32, which sum to one for each head.
    """
    content = soft(similarity(heads.key, memory, heads.strength))
    gated = interpolate(content, previous, heads.gate)
    shifted = shift(gated, heads.shift)
    return sharpen(shifted, heads.sharpness)


def similarity(
    keys: Float[Array, "*B H M"], memory: Float[Array, "*B M N"], strength: Float[Array, "*B H"]
) -> Float[Array, "*B H N"]:
    """Cosine similarity of keys and rows, `β K[k, M(i)]` (eq. 5 and 6; `scores.content`).

    Args:
        keys: k, one per head.
        memory: `[*B, M, N]`.
        strength: β, one per head.

    Returns:
        Logits `[*B, H, N]` in float32.
    """
    dots = jnp.einsum("...hm,...mn->...hn", keys, memory, preferred_element_type=jnp.float32)
    scale = strength.astype(jnp.float32) * inverse_norm(keys, axis=-1)
    return dots * scale[..., None] * inverse_norm(memory, axis=-2)[..., None, :]


def interpolate(
    content: Float[Array, "*B H N"], previous: Float[Array, "*B H N"], gate: Float[Array, "*B H"]
) -> Float[Array, "*B H N"]:
    """Interpolated weightings, `g w^c + (1 - g) w_{t-1}` (eq. 7).

    Args:
        content: w^c, content weightings.
        previous: w_{t-1}, weightings of the previous step.
        gate: g, one per head.

    Returns:
        Gated weightings `[*B, H, N]`.
    """
    return previous + gate[..., None] * (content - previous)


def shift(
    weights: Float[Array, "*B H N"], shifts: Float[Array, "*B H J"]
) -> Float[Array, "*B H N"]:
    """Circular convolution with the shifts, `w(i) = Σ_j w(j) s(i - j)` (eq. 8).

    Args:
        weights: `[*B, H, N]`.
        shifts: `[*B, H, J]`, weights of the J = 2R + 1 shifts by -R ... R. A shift of 1 moves the
            weight of row i to row i + 1, and the weight of the last row to row 0.

    Returns:
        Weightings `[*B, H, N]`.

    Raises:
        ValueError: if the number of shifts is even.
    """
    if shifts.shape[-1] % 2 == 0:
        raise ValueError(f"the number of shifts, by -R ... R, must be odd, not {shifts.shape[-1]}")
    radius = shifts.shape[-1] // 2
    shifted = jnp.zeros_like(weights)
    for j in range(2 * radius + 1):
        shifted += shifts[..., j, None] * jnp.roll(weights, j - radius, axis=-1)
    return shifted


def sharpen(
    weights: Float[Array, "*B H N"], sharpness: Float[Array, "*B H"]
) -> Float[Array, "*B H N"]:
    """Sharpened weightings, `w(i)^γ / Σ_j w(j)^γ` (eq. 9), computed in log space.

    Args:
        weights: `[*B, H, N]`, nonnegative.
        sharpness: γ >= 1, one per head.

    Returns:
        Weightings `[*B, H, N]` in float32, which sum to one.
    """
    # In log space, because `w ** γ` would underflow.
    logs = jnp.log(jnp.maximum(weights.astype(jnp.float32), TINY))
    return soft(sharpness[..., None].astype(jnp.float32) * logs)


def write(
    memory: Float[Array, "*B M N"],
    weights: Float[Array, "*B H N"],
    erase: Float[Array, "*B H M"],
    add: Float[Array, "*B H M"],
) -> Float[Array, "*B M N"]:
    """Update the memory to `M(i) Π_h (1 - w_h(i) e_h) + Σ_h w_h(i) a_h`.

    All heads erase before any head adds.

    Source: Graves et al. 2014, eq. 3 and 4, and the remark on several heads below them.

    Args:
        memory: `[*B, M, N]`.
        weights: weightings of H write heads, `[*B, H, N]`.
        erase: e in (0, 1), erase vectors `[*B, H, M]`.
        add: a, add vectors `[*B, H, M]`.

    Returns:
        The new memory `[*B, M, N]`.
    """
    weights, erase, add = (x.astype(memory.dtype) for x in (weights, erase, add))
    for head in range(weights.shape[-2]):
        memory = _erase(memory, weights[..., head, :], erase[..., head, :])
    return memory + jnp.einsum("...hm,...hn->...mn", add, weights)


@jax.custom_vjp
def _erase(memory, weights, erase):
    """Erase step of one head, `M (1 - e w^T)`."""
    return memory * (1 - erase[..., None] * weights[..., None, :])


def _erase_forward(memory, weights, erase):
    return _erase(memory, weights, erase), (memory, weights, erase)


def _erase_backward(residuals, g):
    """Compute gradients of weights and erase as matrix products, not sums of broadcast arrays."""
    memory, weights, erase = residuals
    d_outer = -g * memory
    return (
        g * (1 - erase[..., None] * weights[..., None, :]),
        jnp.einsum("...mn,...m->...n", d_outer, erase),
        jnp.einsum("...mn,...n->...m", d_outer, weights),
    )


_erase.defvjp(_erase_forward, _erase_backward)
