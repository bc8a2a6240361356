"""Exact soft attention in O(T + S) memory, for any score.

The forward pass accumulates the softmax over blocks of keys (Milakov & Gimelshein 2018; Rabe &
Staats 2021). The backward pass recomputes the logits of each block instead of storing them (Dao et
al. 2022, algorithm 4). `jax.vjp` differentiates the score one block at a time,
so additive attention or a user-defined score needs no more memory than the dot product.

Blocks without a pair of the same segment are skipped, so that attention within segments of bounded
length takes O(T + S) time.
"""

from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Bool, Float, Int

from attention.masks import SegmentIds, segments
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
    mask: Bool[Array, "*#B #T #S"] | SegmentIds | None = None,
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
            mask, or the `SegmentIds` of packed rows. For each block of queries, the key blocks from
            the first to the last with one of their segments are visited, so that the segments of
            a row should be in order.
        causal: whether query t attends to keys 0 .. t only. This is a flag because the mask would
            have T·S elements. Blocks that lie entirely in the future are skipped.
        block: number of queries and of keys per block; the last block may extend beyond T or S.

    Returns:
        Contexts `[*B, T, V]` in the values' dtype.
    """
    t, s = queries.shape[-2], keys.shape[-2]
    blocking = _Blocking(score, causal, min(block, t), min(block, s))
    contexts = _attend(
        blocking,
        _pad(queries, -2, blocking.queries),
        _pad(keys, -2, blocking.keys),
        _pad(values, -2, blocking.keys),
        params,
        _pad_mask(blocking, mask, s),
    )
    return contexts[..., :t, :]


@partial(jax.custom_vjp, nondiff_argnums=(0,))
def _attend(blocking, queries, keys, values, params, mask):
    return _forward(blocking, queries, keys, values, params, mask)[0]


def _forward(blocking, queries, keys, values, params, mask):
    def query_block(visit):
        i, first, stop = visit
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
        softmax = lax.fori_loop(first, stop, key_block, softmax)
        return _finalize(softmax, values.dtype)

    contexts, log_sums = lax.map(query_block, _visits(blocking, queries, keys, mask))
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

    def query_block(carry, visit):
        i, first, stop = visit
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
        d_q, *carry = lax.fori_loop(first, stop, key_block, start)
        return tuple(carry), d_q

    # Sums over blocks are float32 for inputs of any precision.
    zeros = jax.tree.map(lambda x: jnp.zeros(x.shape, jnp.float32), (keys, values, params))
    visits = _visits(blocking, queries, keys, mask)
    (d_keys, d_values, d_params), d_queries = lax.scan(query_block, zeros, visits)
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
    if isinstance(mask, SegmentIds):
        ids = _slice(mask.queries, -1, i, blocking.queries)
        mask = segments(ids, _slice(mask.keys, -1, j, blocking.keys))
    else:
        mask = _slice(_slice(mask, -2, i, blocking.queries), -1, j, blocking.keys)
    if blocking.causal:
        t = i * blocking.queries + jnp.arange(blocking.queries)[:, None]
        mask = mask & (j * blocking.keys + jnp.arange(blocking.keys) <= t)
    return jnp.where(mask, logits, -jnp.inf)


class _Visits(NamedTuple):
    """For each block of queries, the key blocks `first` to `stop - 1` that it attends to."""

    block: Int[Array, " blocks"]
    first: Int[Array, " blocks"]
    stop: Int[Array, " blocks"]


def _visits(blocking, queries, keys, mask):
    rows, columns = queries.shape[-2] // blocking.queries, keys.shape[-2] // blocking.keys
    block = jnp.arange(rows)
    first, stop = jnp.zeros_like(block), jnp.full_like(block, columns)
    if isinstance(mask, SegmentIds):
        low, high = (x[..., :, None] for x in _id_range(mask.queries, blocking.queries))
        low_key, high_key = (x[..., None, :] for x in _id_range(mask.keys, blocking.keys))
        overlap = ((low <= high_key) & (low_key <= high)).reshape(-1, rows, columns).any(0)
        first = jnp.argmax(overlap, axis=1)
        stop = jnp.where(overlap.any(1), columns - jnp.argmax(overlap[:, ::-1], axis=1), first)
    if blocking.causal:
        stop = jnp.minimum(stop, ((block + 1) * blocking.queries - 1) // blocking.keys + 1)
    return _Visits(block, first, stop)


def _id_range(ids, block):
    """Smallest and largest id of each block, without padding."""
    blocks = ids.reshape(*ids.shape[:-1], -1, block)
    return jnp.where(blocks > 0, blocks, jnp.iinfo(ids.dtype).max).min(-1), blocks.max(-1)


def _pad_mask(blocking, mask, keys):
    """Pad the mask of a number of keys to whole blocks; added keys are masked."""
    if isinstance(mask, SegmentIds):
        return SegmentIds(
            _pad(mask.queries, -1, blocking.queries), _pad(mask.keys, -1, blocking.keys)
        )
    mask = jnp.ones((1, 1), bool) if mask is None else jnp.atleast_2d(mask)
    if keys % blocking.keys and mask.shape[-1] == 1:
        # The keys that pad the last block must be masked, so the mask needs its full key axis.
        mask = jnp.broadcast_to(mask, (*mask.shape[:-1], keys))
    return _pad(_pad(mask, -1, blocking.keys), -2, blocking.queries)


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
