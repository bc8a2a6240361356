"""Scores: how well each key answers each query, as logits.

Every score is a pure function `score(queries, keys, params)` of already projected queries and keys
and of its own weights (`None` where it has none), and returns one logit per (query, key) pair. As
the signature is shared, masks, heads, caches, local windows and the memory-linear evaluation in
`blockwise.py` work for each of them.

What depends on the source alone is projected by the caller, once: so `general` is a dot product
with keys that have met its matrix, and `location` one with keys that know only where they stand.
"""

from typing import Any, Protocol, runtime_checkable

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float

EPSILON = 1e-6  # the least norm of a vector that has a direction


@runtime_checkable
class Score(Protocol):
    """The signature all scores share. Logits are float32 whatever the inputs are."""

    def __call__(
        self, queries: Float[Array, "*B T K"], keys: Float[Array, "*B S K"], params: Any = None
    ) -> Float[Array, "*B T S"]: ...


def dot(
    queries: Float[Array, "*B T K"], keys: Float[Array, "*B S K"], params: None = None
) -> Float[Array, "*B T S"]:
    """Dot product, `q · k`.

    Source: Luong et al. 2015, sec. 3.1, "dot".

    Args:
        queries: `[*B, T, K]`.
        keys: `[*B, S, K]`.
        params: none; here because every score has the same signature.

    Returns:
        Logits `[*B, T, S]` in float32.
    """
    del params
    return jnp.einsum("...tk,...sk->...ts", queries, keys, preferred_element_type=jnp.float32)


def scaled_dot(
    queries: Float[Array, "*B T K"], keys: Float[Array, "*B S K"], params: None = None
) -> Float[Array, "*B T S"]:
    """Scaled dot product, `q · k / sqrt(K)`.

    Source: Vaswani et al. 2017, eq. 1. The scale multiplies the queries, which is the same number
    and touches T·K elements instead of T·S.

    Args:
        queries: `[*B, T, K]`.
        keys: `[*B, S, K]`.
        params: none.

    Returns:
        Logits `[*B, T, S]` in float32.
    """
    del params
    return dot(queries * jnp.asarray(queries.shape[-1] ** -0.5, queries.dtype), keys)


def general(
    queries: Float[Array, "*B T K"],
    keys: Float[Array, "*B S J"],
    params: Float[Array, "K J"] | None = None,
) -> Float[Array, "*B T S"]:
    """Bilinear form, `q · W k`.

    Source: Luong et al. 2015, sec. 3.1, "general".

    Args:
        queries: `[*B, T, K]`.
        keys: `[*B, S, J]`; or `[*B, S, K]`, already multiplied by W.
        params: W, `[K, J]`; none where the keys have met it.

    Returns:
        Logits `[*B, T, S]` in float32.
    """
    if params is not None:
        queries = queries @ params.astype(queries.dtype)
    return dot(queries, keys)


def location(
    queries: Float[Array, "*B T K"], keys: Float[Array, "*#B S K"], params: None = None
) -> Float[Array, "*B T S"]:
    """From the target state alone, `(W_a q)_s`: what stands at a position does not matter.

    Source: Luong et al. 2015, sec. 3.1, "location".

    Args:
        queries: `[*B, T, K]`.
        keys: the first S rows of W_a, `[S_max, K]`, for every sequence the same: row s is the key
            of position s.
        params: none.

    Returns:
        Logits `[*B, T, S]` in float32.
    """
    del params
    return dot(queries, keys)


def content(
    queries: Float[Array, "*B T K"],
    keys: Float[Array, "*B S K"],
    params: Float[Array, "..."] | None = None,
) -> Float[Array, "*B T S"]:
    """Cosine similarity times sharpness, `beta · q · k / (|q| |k|)`.

    Source: Graves et al. 2014, eq. 5 and 6.

    Args:
        queries: `[*B, T, K]`.
        keys: `[*B, S, K]`.
        params: beta, a number or `[*B, T]`, one for each query; 1 unless given.

    Returns:
        Logits `[*B, T, S]` in float32.
    """
    # The norms divide T·S logits, not S·K keys: those stay as they are.
    scale = inverse_norm(queries, axis=-1)
    if params is not None:
        scale *= params.astype(jnp.float32)
    return dot(queries, keys) * scale[..., None] * inverse_norm(keys, axis=-1)[..., None, :]


def inverse_norm(x: Float[Array, "..."], axis: int) -> Float[Array, "..."]:
    """`1 / |x|` of the vectors along an axis, in float32.

    Next to `EPSILON` a vector has no direction: its norm is kept from zero, its cosines are zero.
    """
    x = x.astype(jnp.float32)
    return lax.rsqrt(jnp.sum(x * x, axis=axis) + EPSILON**2)


@jax.custom_vjp
def additive(
    queries: Float[Array, "*B T A"], keys: Float[Array, "*B S A"], params: Float[Array, "*#B A"]
) -> Float[Array, "*B T S"]:
    """One hidden layer, `v · tanh(q + k)`.

    Source: Bahdanau et al. 2015, app. A.1.2; with the state's and the annotation's halves of one
    matrix it is "concat" of Luong et al. 2015, sec. 3.1.

    Args:
        queries: `[*B, T, A]`, the states times W_a.
        keys: `[*B, S, A]`, the annotations times U_a.
        params: v_a, `[A]`; or `[*B, A]`, one for each sequence.

    Returns:
        Logits `[*B, T, S]` in float32.
    """
    hidden = jnp.tanh(queries[..., :, None, :] + keys[..., None, :, :])
    return jnp.einsum(
        "...tsa,...a->...ts",
        hidden,
        params.astype(hidden.dtype),
        preferred_element_type=jnp.float32,
    )


def _additive_forward(queries, keys, params):
    return additive(queries, keys, params), (queries, keys, params)


def _additive_backward(residuals, d_logits):
    """Computes the hidden layer again, query by query: kept, it would be T·S·A numbers.

    Nor would XLA's CPU backend sum such an array along two axes in less than five times this. Each
    sequence has a gradient of v of its own until the end: sequences may be split over devices,
    which then need not meet at every query.
    """
    queries, keys, params = residuals

    def query(carry, at_query):
        d_keys, d_params = carry
        q, d = at_query
        hidden = jnp.tanh(q[..., None, :] + keys).astype(jnp.float32)
        d_params += jnp.einsum("...s,...sa->...a", d, hidden)
        d_hidden = d[..., None] * (1.0 - hidden * hidden)
        return (d_keys + d_hidden, d_params), d_hidden.sum(-2)

    start = jnp.zeros(keys.shape), jnp.zeros(keys.shape[:-2] + keys.shape[-1:])
    by_query = jnp.moveaxis(queries, -2, 0), jnp.moveaxis(d_logits, -2, 0)
    (d_keys, d_params), d_queries = lax.scan(query, start, by_query)
    d_queries = jnp.moveaxis(d_queries, 0, -2)
    rows = params[..., None, :]
    return (
        (rows * d_queries).astype(queries.dtype),
        (rows * d_keys).astype(keys.dtype),
        _summed_to(d_params, params.shape).astype(params.dtype),
    )


def _summed_to(x, shape):
    """The gradient of what was broadcast from `shape`."""
    x = x.sum(tuple(range(x.ndim - len(shape))))
    return x.sum(tuple(n for n, size in enumerate(shape) if size != x.shape[n]), keepdims=True)


additive.defvjp(_additive_forward, _additive_backward)
