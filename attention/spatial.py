"""Self-attention over the positions of a feature map.

Source: Zhang et al. 2019, "Self-Attention Generative Adversarial Networks", sec. 3. A feature map
`[*B, Y, X, C]` is flattened to a sequence of P = Y·X positions. Queries, keys and values are linear
projections of each position ("1 x 1 convolutions"), and a fourth projection maps the contexts back
to C channels.

Deviation from the paper, as in the authors' code: keys and values are max-pooled to P / 4 positions
(`pooled=True`), and values have C/2 channels.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float

from attention.attend import attend
from attention.scores import Score, dot


class Projections(NamedTuple):
    """Projection matrices, W_g, W_f, W_h and W_v in the paper."""

    query: Float[Array, "C K"]
    key: Float[Array, "C K"]
    value: Float[Array, "C V"]
    output: Float[Array, "V C"]


def attend_map(
    maps: Float[Array, "*B Y X C"],
    weights: Projections,
    *,
    score: Score = dot,
    pooled: bool = True,
) -> tuple[Float[Array, "*B Y X C"], Float[Array, "*B P S"]]:
    """Attend from every position to all positions, or to all pooled positions.

    Source: Zhang et al. 2019, eq. 1 and 2.

    Args:
        maps: `[*B, Y, X, C]`; Y and X must be even if `pooled`.
        weights: projection matrices.
        score: maps queries and keys to logits; the unscaled dot product in the paper.
        pooled: whether keys and values are max-pooled to S = P / 4 positions.

    Returns:
        Contexts o, of the shape of `maps`, and attention weights β, `[*B, P, S]` in float32.
    """
    query, key, value, output = (w.astype(maps.dtype) for w in weights)
    keys, values = maps @ key, maps @ value
    if pooled:
        keys, values = max_pool(keys), max_pool(values)
    keys, values = _store_positions_last(flatten(keys)), _store_positions_last(flatten(values))
    contexts, attention = attend(flatten(maps @ query), keys, values, score=score)
    return (contexts @ output).reshape(maps.shape), attention


def gated_residual(
    maps: Float[Array, "*B Y X C"], contexts: Float[Array, "*B Y X C"], gate: Float[Array, ""]
) -> Float[Array, "*B Y X C"]:
    """Gated residual `x + γ o` with a learned scalar γ, initially 0 (Zhang et al. 2019, eq. 3)."""
    return maps + gate.astype(maps.dtype) * contexts.astype(jnp.result_type(maps))


def flatten(maps: Float[Array, "*B Y X C"]) -> Float[Array, "*B P C"]:
    """Flatten the positions in row-major order."""
    return maps.reshape(*maps.shape[:-3], -1, maps.shape[-1])


@jax.custom_vjp
def max_pool(maps: Float[Array, "*B Y X C"]) -> Float[Array, "*B Y//2 X//2 C"]:
    """Max pooling over 2 x 2 windows with stride 2.

    The forward pass is one reduction: XLA's CPU backend may fuse a `maximum` of slices into its
    consumers and recompute it at every read. The VJP differentiates two pairwise maxima, which
    compare their inputs with each other. The VJP of `max` would compare the inputs with a
    recomputed maximum, which XLA may round differently, so that no input equals the maximum.
    """
    *batch, rows, columns, channels = maps.shape
    windows = maps.reshape(*batch, rows // 2, 2, columns // 2, 2, channels)
    return windows.max((-4, -2))


def _pairwise_max_pool(maps):
    *batch, rows, columns, channels = maps.shape
    pairs = maps.reshape(*batch, rows // 2, 2, columns, channels)
    pairs = jnp.maximum(pairs[..., 0, :, :], pairs[..., 1, :, :])
    pairs = pairs.reshape(*batch, rows // 2, columns // 2, 2, channels)
    return jnp.maximum(pairs[..., 0, :], pairs[..., 1, :])


max_pool.defvjp(
    lambda maps: (max_pool(maps), maps),
    lambda maps, d_pooled: jax.vjp(_pairwise_max_pool, maps)[1](d_pooled),
)


def _store_positions_last(x: Float[Array, "*B S K"]) -> Float[Array, "*B S K"]:
    """Return `x` unchanged, with its last two axes transposed in memory.

    The gradient of `x` in the dot product is then a product of a short and a wide matrix, three
    times as fast on a CPU as XLA's product of a tall and a narrow one. The barrier keeps XLA from
    canceling the two transpositions.
    """
    return lax.optimization_barrier(x.swapaxes(-1, -2)).swapaxes(-1, -2)
