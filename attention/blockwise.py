"""Exact soft attention in O(T + S) memory, for any score.

The forward pass accumulates the softmax over blocks of keys (Milakov & Gimelshein 2018; Rabe &
Staats 2021). The backward pass recomputes the logits of each block instead of storing them (Dao et
al. 2022, algorithm 4). `jax.vjp` differentiates the score one block at a time,
so additive attention or a user-defined score needs no more memory than the dot product.
"""

from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Bool, Float

from attention.scores import Score, scaled_dot


class _Blocking(NamedTuple):
    """Static arguments: the score and the block sizes of the `[T, S]` logits."""

    score: Score
    causal: bool
    queries: int
    keys: int


class _OnlineSoftmax(NamedTuple):
    """Softmax over the keys visited so far, for one block of queries."""

    maximum: Float[Array, "*B T"]  # m, largest logit
    total: Float[Array, "*B T"]  # l, sum of exp(logit - m)
    context: Float[Array, "*B T V"]  # sum of exp(logit - m) times value


def attend(
    queries: Float[Array, "*B T K"],
    keys: Float[Array, "*B S K"],
    values: Float[Array, "*B S V"],
    *,
    score: Score = scaled_dot,
    params: Any = None,
    mask: Bool[Array, "*#B #T #S"] | None = None,
    causal: bool = False,
    block: int = 512,
) -> Float[Array, "*B T V"]:
    """Soft attention with the values and gradients of `attention.attend`, in O(T + S) memory.

    Args:
        queries: `[*B, T, K]`; T and S are at least 1.
        keys: `[*B, S, K]`.
        values: `[*B, S, V]`.
        score: any score; its logits exist for one block of queries and keys at a time.
        params: parameters of the score; they receive gradients.
        mask: broadcastable to `[*B, T, S]`. Pass an array of O(T + S) elements, such as a padding
            mask.
        causal: whether query t attends to keys 0 .. t only. This is a flag because the mask would
            have T·S elements. Blocks that lie entirely in the future are skipped.
        block: number of queries and of keys per block; the last block may extend beyond T or S.

    Returns:
        Contexts `[*B, T, V]` in the values' dtype.
    """
    t, s = queries.shape[-2], keys.shape[-2]
    blocking = _Blocking(score, causal, min(block, t), min(block, s))
    mask = jnp.ones((1, 1), bool) if mask is None else jnp.atleast_2d(mask)
    if s % blocking.keys and mask.shape[-1] == 1:
        # The keys that pad the last block must be masked, so the mask needs its full key axis.
        mask = jnp.broadcast_to(mask, (*mask.shape[:-1], s))
    contexts = _attend(
        blocking,
        _pad(queries, -2, blocking.queries),
        _pad(keys, -2, blocking.keys),
        _pad(values, -2, blocking.keys),
        params,
        _pad(_pad(mask, -1, blocking.keys), -2, blocking.queries),
    )
    return contexts[..., :t, :]


@partial(jax.custom_vjp, nondiff_argnums=(0,))
def _attend(blocking, queries, keys, values, params, mask):
    return _forward(blocking, queries, keys, values, params, mask)[0]


def _forward(blocking, queries, keys, values, params, mask):
    def query_block(i):
        q = _slice(queries, -2, i, blocking.queries)

        def key_block(j, softmax):
            k, v = (_slice(x, -2, j, blocking.keys) for x in (keys, values))
            return _accumulate(softmax, _logits(blocking, q, k, params, mask, i, j), v)

        rows = q.shape[:-1]
        softmax = _OnlineSoftmax(
            jnp.full(rows, -jnp.inf, jnp.float32),
            jnp.zeros(rows, jnp.float32),
            jnp.zeros((*rows, values.shape[-1]), jnp.float32),
        )
        softmax = lax.fori_loop(0, _count_key_blocks(blocking, keys, i), key_block, softmax)
        return _finalize(softmax, values.dtype)

    contexts, log_sums = lax.map(query_block, jnp.arange(_count_query_blocks(blocking, queries)))
    # [blocks, *B, t, V] -> [*B, T, V]
    contexts = jnp.moveaxis(contexts, 0, -3).reshape(*queries.shape[:-1], values.shape[-1])
    log_sums = jnp.moveaxis(log_sums, 0, -2).reshape(queries.shape[:-1])
    return contexts, (queries, keys, values, params, mask, contexts, log_sums)


def _accumulate(softmax, logits, v):
    """Add one block of keys (Milakov & Gimelshein 2018, algorithm 3)."""
    maximum = jnp.maximum(softmax.maximum, logits.max(-1))
    finite = jnp.where(jnp.isneginf(maximum), 0.0, maximum)
    weights = jnp.exp(logits - finite[..., None])
    rescale = jnp.exp(softmax.maximum - finite)
    total = softmax.total * rescale + weights.sum(-1)
    update = jnp.einsum(
        "...ts,...sv->...tv", weights.astype(v.dtype), v, preferred_element_type=jnp.float32
    )
    return _OnlineSoftmax(maximum, total, softmax.context * rescale[..., None] + update)


def _finalize(softmax, dtype):
    """Contexts `[*B, t, V]`, and the log-sum-exp of each row of logits, `[*B, t]`."""
    total = jnp.where(softmax.total == 0.0, 1.0, softmax.total)
    log_sum = jnp.where(jnp.isneginf(softmax.maximum), 0.0, softmax.maximum) + jnp.log(total)
    return (softmax.context / total[..., None]).astype(dtype), log_sum


def _backward(blocking, residuals, d_contexts):
    queries, keys, values, params, mask, contexts, log_sums = residuals
    # D = rowsum(dO * O), the term sum_s w_s dw_s of the softmax derivative.
    d_contexts = d_contexts.astype(jnp.float32)
    row_dots = jnp.sum(d_contexts * contexts.astype(jnp.float32), axis=-1)

    def query_block(carry, i):
        q, d_context, row_dot, log_sum = (
            _slice(x, axis, i, blocking.queries)
            for x, axis in ((queries, -2), (d_contexts, -2), (row_dots, -1), (log_sums, -1))
        )

        def key_block(j, carry):
            d_q, d_keys, d_values, d_params = carry
            k, v = (_slice(x, -2, j, blocking.keys) for x in (keys, values))
            score = lambda q, k, params: _logits(blocking, q, k, params, mask, i, j)
            d_v, (d_q_block, d_k, d_params_block) = _block_gradients(
                score, q, k, v, params, log_sum, d_context, row_dot
            )
            return (
                d_q + d_q_block,
                _add_slice(d_keys, d_k, j * blocking.keys),
                _add_slice(d_values, d_v, j * blocking.keys),
                jax.tree.map(jnp.add, d_params, d_params_block),
            )

        start = (jnp.zeros(q.shape, jnp.float32), *carry)
        d_q, *carry = lax.fori_loop(0, _count_key_blocks(blocking, keys, i), key_block, start)
        return tuple(carry), d_q

    # Sums over blocks are float32 for inputs of any precision.
    zeros = jax.tree.map(lambda x: jnp.zeros(x.shape, jnp.float32), (keys, values, params))
    blocks = jnp.arange(_count_query_blocks(blocking, queries))
    (d_keys, d_values, d_params), d_queries = lax.scan(query_block, zeros, blocks)
    d_queries = jnp.moveaxis(d_queries, 0, -3).reshape(queries.shape)
    gradients = jax.tree.map(
        lambda d, x: d.astype(x.dtype),
        (d_queries, d_keys, d_values, d_params),
        (queries, keys, values, params),
    )
    return *gradients, None


def _block_gradients(score, q, k, v, params, log_sum, d_context, row_dot):
    """Gradients of v, and of q, k and params, for one block (Dao et al. 2022, algorithm 4)."""
    logits, score_vjp = jax.vjp(score, q, k, params)
    weights = jnp.exp(logits - log_sum[..., None])
    d_v = jnp.einsum("...ts,...tv->...sv", weights, d_context)
    d_weights = jnp.einsum("...tv,...sv->...ts", d_context, v.astype(jnp.float32))
    d_inputs = score_vjp(weights * (d_weights - row_dot[..., None]))
    return d_v, jax.tree.map(lambda d: d.astype(jnp.float32), d_inputs)


_attend.defvjp(_forward, _backward)


def _logits(blocking, q, k, params, mask, i, j):
    """Masked logits of query block i and key block j."""
    logits = blocking.score(q, k, params).astype(jnp.float32)
    mask = _slice(_slice(mask, -2, i, blocking.queries), -1, j, blocking.keys)
    if blocking.causal:
        t = i * blocking.queries + jnp.arange(blocking.queries)[:, None]
        mask = mask & (j * blocking.keys + jnp.arange(blocking.keys) <= t)
    return jnp.where(mask, logits, -jnp.inf)


def _count_query_blocks(blocking, queries):
    return queries.shape[-2] // blocking.queries


def _count_key_blocks(blocking, keys, i):
    """Count the key blocks that query block i attends to."""
    count = keys.shape[-2] // blocking.keys
    if not blocking.causal:
        return count
    return jnp.minimum(count, ((i + 1) * blocking.queries - 1) // blocking.keys + 1)


def _pad(x, axis, block):
    """Pad an axis with zeros to a multiple of the block size, unless it broadcasts."""
    if x.shape[axis] == 1:
        return x
    widths = [(0, 0)] * x.ndim
    widths[axis] = (0, -x.shape[axis] % block)
    return jnp.pad(x, widths)


def _slice(x, axis, i, block):
    """Block i of an axis, or the whole axis if it broadcasts."""
    if x.shape[axis] == 1:
        return x
    return lax.dynamic_slice_in_dim(x, i * block, block, axis % x.ndim)


def _add_slice(x, update, start):
    """Add an update to rows `start ..` of the second-to-last axis."""
    old = lax.dynamic_slice_in_dim(x, start, update.shape[-2], x.ndim - 2)
    return lax.dynamic_update_slice_in_dim(x, old + update, start, x.ndim - 2)
