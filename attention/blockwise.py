"""Attention in O(T + S) memory, for any score.

The softmax over the keys is accumulated block by block (Milakov & Gimelshein 2018; Rabe & Staats
2021), and the backward pass recomputes each block's logits instead of keeping them (Dao et al.
2022, algorithm 4). A score is differentiated by `jax.vjp` one block at a time, so additive
attention, or one not invented yet, gets the same treatment as the dot product.
"""

from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Bool, Float

from attention.scores import Score, scaled_dot


class _Blocks(NamedTuple):
    """How the [T, S] plane is cut; static."""

    score: Score
    causal: bool
    queries: int
    keys: int


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
    """Soft attention whose values and gradients equal `attention.attend`'s, in O(T + S) memory.

    Args:
        queries: `[*B, T, K]`.
        keys: `[*B, S, K]`.
        values: `[*B, S, V]`.
        score: any score; its logits exist for one block of queries and keys at a time.
        params: the score's own weights; they receive gradients.
        mask: broadcastable to `[*B, T, S]`. Give what is O(T + S), such as a padding mask.
        causal: query t sees keys 0 .. t. A flag, since the mask itself would be [T, S]; blocks that
            lie in the future are not computed.
        block: side of a block; the last one may reach beyond T or S.

    Returns:
        Contexts `[*B, T, V]` in the values' dtype.
    """
    (t, s) = queries.shape[-2], keys.shape[-2]
    blocks = _Blocks(score, causal, min(block, t), min(block, s))
    mask = jnp.ones((1, 1), bool) if mask is None else jnp.atleast_2d(mask)
    if s % blocks.keys and mask.shape[-1] == 1:
        # Keys that only fill the last block up must be hidden, so the mask has to name the keys.
        mask = jnp.broadcast_to(mask, (*mask.shape[:-1], s))
    padded = _attend(
        blocks,
        _pad(queries, -2, blocks.queries),
        _pad(keys, -2, blocks.keys),
        _pad(values, -2, blocks.keys),
        params,
        _pad(_pad(mask, -1, blocks.keys), -2, blocks.queries),
    )
    return padded[..., :t, :]


def _pad(x, axis, block):
    """Fills an axis up with zeros to whole blocks, unless it broadcasts."""
    if x.shape[axis] == 1:
        return x
    widths = [(0, 0)] * x.ndim
    widths[axis] = (0, -x.shape[axis] % block)
    return jnp.pad(x, widths)


def _slice(x, axis, i, block):
    """Block i of an axis; the whole axis where it broadcasts."""
    if x.shape[axis] == 1:
        return x
    return lax.dynamic_slice_in_dim(x, i * block, block, axis % x.ndim)


def _logits(blocks, q, k, params, mask, i, j):
    """Masked logits of query block i against key block j."""
    logits = blocks.score(q, k, params).astype(jnp.float32)
    mask = _slice(_slice(mask, -2, i, blocks.queries), -1, j, blocks.keys)
    if blocks.causal:
        t = i * blocks.queries + jnp.arange(blocks.queries)[:, None]
        mask = mask & (j * blocks.keys + jnp.arange(blocks.keys) <= t)
    return jnp.where(mask, logits, -jnp.inf)


def _key_blocks(blocks, keys, i):
    """How many key blocks query block i has to visit."""
    total = max(1, keys.shape[-2] // blocks.keys)
    if not blocks.causal:
        return total
    return jnp.minimum(total, ((i + 1) * blocks.queries - 1) // blocks.keys + 1)


@partial(jax.custom_vjp, nondiff_argnums=(0,))
def _attend(blocks, queries, keys, values, params, mask):
    return _forward(blocks, queries, keys, values, params, mask)[0]


def _forward(blocks, queries, keys, values, params, mask):
    def query_block(i):
        q = _slice(queries, -2, i, blocks.queries)

        def key_block(j, carry):
            peak, total, context = carry
            k, v = (_slice(x, -2, j, blocks.keys) for x in (keys, values))
            logits = _logits(blocks, q, k, params, mask, i, j)
            new_peak = jnp.maximum(peak, logits.max(-1))
            safe = jnp.where(jnp.isneginf(new_peak), 0.0, new_peak)
            weights = jnp.exp(logits - safe[..., None])
            shrink = jnp.exp(peak - safe)
            total = total * shrink + weights.sum(-1)
            update = jnp.einsum(
                "...ts,...sv->...tv",
                weights.astype(v.dtype),
                v,
                preferred_element_type=jnp.float32,
            )
            return new_peak, total, context * shrink[..., None] + update

        rows = q.shape[:-1]
        start = (
            jnp.full(rows, -jnp.inf),
            jnp.zeros(rows),
            jnp.zeros((*rows, values.shape[-1])),
        )
        peak, total, context = lax.fori_loop(0, _key_blocks(blocks, keys, i), key_block, start)
        total = jnp.where(total == 0.0, 1.0, total)
        log_total = jnp.where(jnp.isneginf(peak), 0.0, peak) + jnp.log(total)
        return (context / total[..., None]).astype(values.dtype), log_total

    count = max(1, queries.shape[-2] // blocks.queries)
    contexts, log_totals = lax.map(query_block, jnp.arange(count))
    # [blocks, *B, t, V] -> [*B, T, V]
    contexts = jnp.moveaxis(contexts, 0, -3).reshape(*queries.shape[:-1], values.shape[-1])
    log_totals = jnp.moveaxis(log_totals, 0, -2).reshape(queries.shape[:-1])
    return contexts, (queries, keys, values, params, mask, contexts, log_totals)


def _backward(blocks, residuals, d_contexts):
    queries, keys, values, params, mask, contexts, log_totals = residuals
    # sum_s w_s dw_s, which the softmax's derivative needs per row, without the row (Dao et al.).
    d_contexts = d_contexts.astype(jnp.float32)
    row_dots = jnp.sum(d_contexts * contexts, axis=-1)

    def query_block(carry, i):
        q, d_context, row_dot, log_total = (
            _slice(x, axis, i, blocks.queries)
            for x, axis in ((queries, -2), (d_contexts, -2), (row_dots, -1), (log_totals, -1))
        )

        def key_block(j, carry):
            d_q, d_keys, d_values, d_params = carry
            k, v = (_slice(x, -2, j, blocks.keys) for x in (keys, values))
            score = lambda q, k, params: _logits(blocks, q, k, params, mask, i, j)
            logits, score_vjp = jax.vjp(score, q, k, params)
            weights = jnp.exp(logits - log_total[..., None])
            d_v = jnp.einsum("...ts,...tv->...sv", weights, d_context)
            d_weights = jnp.einsum("...tv,...sv->...ts", d_context, v.astype(jnp.float32))
            step_q, step_k, step_params = score_vjp(weights * (d_weights - row_dot[..., None]))
            return (
                d_q + step_q,
                _add_slice(d_keys, step_k, j * blocks.keys),
                _add_slice(d_values, d_v, j * blocks.keys),
                jax.tree.map(jnp.add, d_params, step_params),
            )

        start = (jnp.zeros(q.shape), *carry)
        d_q, *carry = lax.fori_loop(0, _key_blocks(blocks, keys, i), key_block, start)
        return tuple(carry), d_q

    # Sums over blocks stay in float32 however narrow the inputs are.
    zeros = jax.tree.map(lambda x: jnp.zeros(x.shape), (keys, values, params))
    count = max(1, queries.shape[-2] // blocks.queries)
    (d_keys, d_values, d_params), d_queries = lax.scan(query_block, zeros, jnp.arange(count))
    d_queries = jnp.moveaxis(d_queries, 0, -3).reshape(queries.shape)
    gradients = jax.tree.map(
        lambda d, x: d.astype(x.dtype),
        (d_queries, d_keys, d_values, d_params),
        (queries, keys, values, params),
    )
    return *gradients, None


def _add_slice(x, update, start):
    """Adds to rows start .. of the second last axis."""
    old = lax.dynamic_slice_in_dim(x, start, update.shape[-2], x.ndim - 2)
    return lax.dynamic_update_slice_in_dim(x, old + update, start, x.ndim - 2)


_attend.defvjp(_forward, _backward)
