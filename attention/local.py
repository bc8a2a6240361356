"""Local attention (Luong et al. 2015, sec. 3.2): each query attends to a window of the source.

A query with center p attends to positions p - D .. p + D. The keys and values of the window are
gathered, and every score works on them as on a source of length 2D + 1: the cost is O(T·D) instead
of O(T·S).
"""

from typing import Any

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Bool, Float, Int

from attention.alignments import soft
from attention.attend import read
from attention.scores import Score, scaled_dot


def monotonic_centers(
    positions: Int[Array, "*#B T"], lengths: Int[Array, "*B"]
) -> Float[Array, "*B T"]:
    """Window centers of local-m: target position t attends around source position t.

    Source: Luong et al. 2015, sec. 3.2. Deviation: a target position beyond the end of the source
    attends around the last source position; in the paper, the window of that position is empty.

    Args:
        positions: target position t of each query.
        lengths: length S of each source.
    """
    return jnp.minimum(positions, lengths[..., None] - 1).astype(jnp.float32)


def predicted_centers(
    hidden: Float[Array, "*B T A"], v: Float[Array, "*#B A"], lengths: Int[Array, "*B"]
) -> Float[Array, "*B T"]:
    """Window centers of local-p: `p = (S - 1) · sigmoid(v · tanh(W_p h))`.

    Source: Luong et al. 2015, eq. 9. Positions count from 0 here, so S - 1 replaces S.

    Args:
        hidden: `[*B, T, A]`, the target states times W_p.
        v: `[A]`; or `[*B, A]`, one per sequence.
        lengths: length S of each source.
    """
    hidden = jnp.tanh(hidden).astype(jnp.float32)
    last = (lengths[..., None] - 1).astype(jnp.float32)
    return last * jax.nn.sigmoid(jnp.einsum("...ta,...a->...t", hidden, v.astype(jnp.float32)))


def attend(
    queries: Float[Array, "*B T K"],
    keys: Float[Array, "*B S K"],
    values: Float[Array, "*B S V"],
    centers: Float[Array, "*B T"],
    valid: Bool[Array, "*B S"],
    *,
    half_width: int,
    gaussian: bool,
    score: Score = scaled_dot,
    params: Any = None,
) -> tuple[Float[Array, "*B T V"], Float[Array, "*B T W"]]:
    """Attend to the window around the center of each query.

    Source: Luong et al. 2015, eq. 10. Centers receive gradients through the Gaussian only.

    Args:
        queries: `[*B, T, K]`, projected.
        keys: `[*B, S, K]`, projected.
        values: `[*B, S, V]`.
        centers: p, in 0 .. S - 1; the window is placed around the nearest position.
        valid: `[*B, S]`, false at padding.
        half_width: D; at least 1 if `gaussian`.
        gaussian: multiply the weights by `exp(-(s - p)² / (2 sigma²))` with `sigma = D / 2`, as
            local-p does; the weights then sum to less than one.
        score: maps queries and keys to logits.
        params: parameters of the score.

    Returns:
        Contexts `[*B, T, V]` in the values' dtype, and weights `[*B, T, W]` in float32 of positions
        round(p) - D .. round(p) + D, zero outside the source.
    """
    nearest = jnp.round(lax.stop_gradient(centers)).astype(jnp.int32)
    window = lambda x: _windows(x, nearest, half_width)
    # Each query has its own keys, so the query axis becomes a batch axis of single queries.
    logits = score(queries[..., None, :], window(keys), params)
    mask = window(valid[..., None])[..., 0]
    weights = soft(logits, mask[..., None, :])
    if gaussian:
        positions = nearest[..., None] + jnp.arange(-half_width, half_width + 1)
        offset = positions - centers[..., None]
        weights *= jnp.exp(-2.0 * (offset / half_width) ** 2)[..., None, :]
    return read(weights, window(values))[..., 0, :], weights[..., 0, :]


def _windows(
    x: Array, centers: Int[Array, "*B T"], half_width: int
) -> Array:  # [*B, S, K] -> [*B, T, W, K]
    """Gather rows center - D .. center + D for each center, zeros beyond the ends."""
    padded = jnp.pad(x, [(0, 0)] * (x.ndim - 2) + [(half_width, half_width), (0, 0)])
    size = 2 * half_width + 1

    def slice_windows(rows, centers):
        # The padding moves row center - D to row `center`.
        return jax.vmap(lambda center: lax.dynamic_slice_in_dim(rows, center, size))(centers)

    for _ in range(x.ndim - 2):
        slice_windows = jax.vmap(slice_windows)
    return slice_windows(padded, centers)


def scatter(
    weights: Float[Array, "*B T W"], centers: Float[Array, "*B T"], length: int
) -> Float[Array, "*B T S"]:
    """Scatter window weights to their source positions, for plots of the attention matrix.

    Args:
        weights: `[*B, T, W]`, as returned by `attend`.
        centers: p, `[*B, T]`.
        length: S.
    """
    half_width = weights.shape[-1] // 2
    offset = jnp.arange(length) - jnp.round(centers).astype(jnp.int32)[..., None] + half_width
    inside = (offset >= 0) & (offset < weights.shape[-1])
    taken = jnp.take_along_axis(weights, jnp.clip(offset, 0, weights.shape[-1] - 1), axis=-1)
    return jnp.where(inside, taken, 0.0)
