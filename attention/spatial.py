"""Attention over the positions of a feature map.

Source: Zhang et al. 2019, "Self-Attention Generative Adversarial Networks", sec. 3. A map is
`[*B, Y, X, C]`, rows and columns of positions; row by row it is a sequence of P = Y·X positions,
and its attention that of any sequence: queries, keys and values are products of each position with
a matrix ("convolutions of 1 x 1"), the context at each goes through a fourth.

In the authors' code, unlike in the paper, keys and values are max-pooled to a quarter of the
positions (`pooled=True`), and values have C/2 channels.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float

from attention.attend import attend
from attention.scores import Score, dot


class Projections(NamedTuple):
    """The four matrices; in the paper's letters W_g, W_f, W_h and W_v."""

    query: Float[Array, "C K"]
    key: Float[Array, "C K"]
    value: Float[Array, "C V"]
    output: Float[Array, "V C"]


def flatten(maps: Float[Array, "*B Y X C"]) -> Float[Array, "*B P C"]:
    """A sequence of positions, row by row."""
    return maps.reshape(*maps.shape[:-3], -1, maps.shape[-1])


@jax.custom_vjp
def max_pool(maps: Float[Array, "*B Y X C"]) -> Float[Array, "*B Y//2 X//2 C"]:
    """The largest of each 2 x 2 positions, channel by channel.

    One reduction, which XLA's CPU backend does once; of a `maximum` of parts it may make a step of
    whatever reads the result, and ask again at each of many reads. Its gradient is that of two by
    two, so that what is larger is asked once: the gradient of a `max` over an axis goes to whatever
    equals the maximum, and XLA may have rounded the two sides of `==` differently.
    """
    *batch, rows, columns, channels = maps.shape
    squares = maps.reshape(*batch, rows // 2, 2, columns // 2, 2, channels)
    return squares.max((-4, -2))


def _pool_in_pairs(maps):
    *batch, rows, columns, channels = maps.shape
    pairs = maps.reshape(*batch, rows // 2, 2, columns, channels)
    pairs = jnp.maximum(pairs[..., 0, :, :], pairs[..., 1, :, :])
    pairs = pairs.reshape(*batch, rows // 2, columns // 2, 2, channels)
    return jnp.maximum(pairs[..., 0, :], pairs[..., 1, :])


max_pool.defvjp(
    lambda maps: (max_pool(maps), maps),
    lambda maps, d_pooled: jax.vjp(_pool_in_pairs, maps)[1](d_pooled),
)


def attend_map(
    maps: Float[Array, "*B Y X C"],
    weights: Projections,
    *,
    score: Score = dot,
    pooled: bool = True,
) -> tuple[Float[Array, "*B Y X C"], Float[Array, "*B P S"]]:
    """Every position attends to all, or to all of the pooled.

    Source: Zhang et al. 2019, eq. 1 and 2.

    Args:
        maps: `[*B, Y, X, C]`; even Y and X if they are to be pooled.
        weights: the matrices.
        score: compares positions; the paper's is the plain dot product.
        pooled: whether keys and values are max-pooled to S = P / 4 positions.

    Returns:
        The contexts o, of the shape of `maps`, and the attention maps β, `[*B, P, S]` in float32.
    """
    query, key, value, output = (w.astype(maps.dtype) for w in weights)
    keys, values = maps @ key, maps @ value
    if pooled:
        keys, values = max_pool(keys), max_pool(values)
    keys, values = _positions_last(flatten(keys)), _positions_last(flatten(values))
    contexts, attention = attend(flatten(maps @ query), keys, values, score=score)
    return (contexts @ output).reshape(maps.shape), attention


def _positions_last(x: Float[Array, "*B S K"]) -> Float[Array, "*B S K"]:
    """The same, kept the other way round in memory.

    Its gradient is then a product of few rows by many columns; XLA's of many by few is three times
    as slow on a CPU. Without the barrier XLA turns it back.
    """
    return lax.optimization_barrier(x.swapaxes(-1, -2)).swapaxes(-1, -2)


def gated(
    maps: Float[Array, "*B Y X C"], contexts: Float[Array, "*B Y X C"], gate: Float[Array, ""]
) -> Float[Array, "*B Y X C"]:
    """`x + γ o`: with γ at 0, where it starts, the map as it was (Zhang et al. 2019, eq. 3)."""
    return maps + gate.astype(maps.dtype) * contexts.astype(jnp.result_type(maps))
