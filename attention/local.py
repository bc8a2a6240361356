"""Local attention (Luong et al. 2015, sec. 3.2): a window of the source, and nothing else.

A query at centre p sees the positions p - D .. p + D. Their keys and values are cut out, and every
score and alignment works on them as on a source of length 2D + 1: the cost is O(T·D), not O(T·S).
"""

from typing import Any

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Bool, Float, Int

from attention.alignments import soft
from attention.attend import read
from attention.scores import Score, scaled_dot


def monotonic_centres(
    positions: Int[Array, "*#B T"], lengths: Int[Array, "*B"]
) -> Float[Array, "*B T"]:
    """Local-m: target position t looks at source position t (Luong et al. 2015, sec. 3.2).

    Beyond the end of the source it looks at its last position, where the paper would look at
    nothing.

    Args:
        positions: t, of each query.
        lengths: S, of each source.
    """
    return jnp.minimum(positions, lengths[..., None] - 1).astype(jnp.float32)


def predicted_centres(
    hidden: Float[Array, "*B T A"], v: Float[Array, "*#B A"], lengths: Int[Array, "*B"]
) -> Float[Array, "*B T"]:
    """Local-p: `p = S · sigmoid(v · tanh(W_p h))` (Luong et al. 2015, sec. 3.2).

    Counted from 0 as we do, a centre lies in 0 .. S - 1, so S - 1 stands in the place of S.

    Args:
        hidden: `[*B, T, A]`, the target states times W_p.
        v: `[A]`; or `[*B, A]`, one for each sequence.
        lengths: S, of each source.
    """
    hidden = jnp.tanh(hidden).astype(jnp.float32)
    last = (lengths[..., None] - 1).astype(jnp.float32)
    return last * jax.nn.sigmoid(jnp.einsum("...ta,...a->...t", hidden, v.astype(jnp.float32)))


def attend(
    queries: Float[Array, "*B T K"],
    keys: Float[Array, "*B S K"],
    values: Float[Array, "*B S V"],
    centres: Float[Array, "*B T"],
    valid: Bool[Array, "*B S"],
    *,
    half_width: int,
    gaussian: bool,
    score: Score = scaled_dot,
    params: Any = None,
) -> tuple[Float[Array, "*B T V"], Float[Array, "*B T W"]]:
    """Attends to the window around each query's centre.

    Source: Luong et al. 2015, sec. 3.2. The gradient reaches a centre through the Gaussian alone.

    Args:
        queries: `[*B, T, K]`, projected.
        keys: `[*B, S, K]`, projected.
        values: `[*B, S, V]`.
        centres: p, in 0 .. S - 1; the window lies around the nearest position.
        valid: `[*B, S]`, false at padding.
        half_width: D.
        gaussian: multiply the weights by `exp(-(s - p)² / (2 sigma²))` with `sigma = D / 2`, as
            local-p does; they then sum to less than one.
        score: maps queries and keys to logits.
        params: the score's own weights.

    Returns:
        Contexts `[*B, T, V]` in the values' dtype, and the weights `[*B, T, W]` of the positions
        round(p) - D .. round(p) + D in float32: zero outside of the source.
    """
    starts = jnp.round(lax.stop_gradient(centres)).astype(jnp.int32)
    window = lambda x: _windows(x, starts, half_width)
    # Each query has a source of its own, so it becomes the one query of a batch.
    logits = score(queries[..., None, :], window(keys), params)
    mask = window(valid[..., None])[..., 0]
    weights = soft(logits, mask[..., None, :])
    if gaussian:
        positions = starts[..., None] + jnp.arange(-half_width, half_width + 1)
        offset = positions - centres[..., None]
        weights *= jnp.exp(-2.0 * (offset / half_width) ** 2)[..., None, :]
    return read(weights, window(values))[..., 0, :], weights[..., 0, :]


def _windows(
    x: Array, starts: Int[Array, "*B T"], half_width: int
) -> Array:  # [*B, S, K] -> [*B, T, W, K]
    """Rows start - D .. start + D for each start; zeros beyond the ends."""
    padded = jnp.pad(x, [(0, 0)] * (x.ndim - 2) + [(half_width, half_width), (0, 0)])
    size = (2 * half_width + 1, x.shape[-1])

    def cut(rows, starts):
        return jax.vmap(lambda start: lax.dynamic_slice(rows, (start, 0), size))(starts)

    for _ in range(x.ndim - 2):
        cut = jax.vmap(cut)
    return cut(padded, starts)


def scattered(
    weights: Float[Array, "*B T W"], centres: Float[Array, "*B T"], length: int
) -> Float[Array, "*B T S"]:
    """The weights of windows in their places among all `length` positions, to look at them."""
    half_width = weights.shape[-1] // 2
    offset = jnp.arange(length) - jnp.round(centres).astype(jnp.int32)[..., None] + half_width
    inside = (offset >= 0) & (offset < weights.shape[-1])
    taken = jnp.take_along_axis(weights, jnp.clip(offset, 0, weights.shape[-1] - 1), axis=-1)
    return jnp.where(inside, taken, 0.0)
