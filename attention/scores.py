"""Scores: logits of every pair of a query and a key.

Every score is a pure function `score(queries, keys, params)` of projected queries and keys and of
its own parameters, which are `None` for a score without parameters. Because all scores share
this signature, masks, heads, caches, local windows and the O(T + S) evaluation in `blockwise.py`
work for each score.

The caller projects the keys once per sequence. With projected keys, `general` is a dot product;
`location` is a dot product with keys that depend on the position only.
"""

from typing import Any, Protocol, runtime_checkable

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float

EPSILON = 1e-6  # added to norms in quadrature


@runtime_checkable
class Score(Protocol):
    """Signature of all scores. Logits are float32 for inputs of any precision."""

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
        params: unused; part of the signature of all scores.

    Returns:
        Logits `[*B, T, S]` in float32.
    """
    del params
    return jnp.einsum("...tk,...sk->...ts", queries, keys, preferred_element_type=jnp.float32)


def scaled_dot(
    queries: Float[Array, "*B T K"], keys: Float[Array, "*B S K"], params: None = None
) -> Float[Array, "*B T S"]:
    """Scaled dot product, `q · k / sqrt(K)`.

    Source: Vaswani et al. 2017, eq. 1.

    Args:
        queries: `[*B, T, K]`.
        keys: `[*B, S, K]`.
        params: unused.

    Returns:
        Logits `[*B, T, S]` in float32.
    """
    del params
    # The float32 logits are scaled: queries of 16 bits would be rounded unless K is a power of 4.
    return dot(queries, keys) * queries.shape[-1] ** -0.5


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
        params: W, `[K, J]`; `None` if the keys are already multiplied by W.

    Returns:
        Logits `[*B, T, S]` in float32.
    """
    if params is not None:
        queries = queries @ params.astype(queries.dtype)
    return dot(queries, keys)


def location(
    queries: Float[Array, "*B T K"], keys: Float[Array, "*#B S K"], params: None = None
) -> Float[Array, "*B T S"]:
    """Location-based score, `(W_a q)_s`: depends on the target state and the source position only.

    Source: Luong et al. 2015, eq. 8.

    Args:
        queries: `[*B, T, K]`.
        keys: the first S rows of W_a, `[S_max, K]`, shared by all sequences: row s is the key of
            source position s.
        params: unused.

    Returns:
        Logits `[*B, T, S]` in float32.
    """
    del params
    return dot(queries, keys)


def content(
    queries: Float[Array, "*B T K"],
    keys: Float[Array, "*B S K"],
    params: Float[Array, "*#B"] | None = None,
) -> Float[Array, "*B T S"]:
    """Cosine similarity times key strength, `β q · k / (|q| |k|)`.

    Source: Graves et al. 2014, eq. 5 and 6.

    Args:
        queries: `[*B, T, K]`.
        keys: `[*B, S, K]`.
        params: β, a scalar; or `[*B]`, one per sequence; `None` for 1.

    Returns:
        Logits `[*B, T, S]` in float32.
    """
    # The logits are divided by the norms, so that no normalized copy of the keys is made.
    scale = inverse_norm(queries, axis=-1)
    if params is not None:
        scale *= params.astype(jnp.float32)[..., None]
    return dot(queries, keys) * scale[..., None] * inverse_norm(keys, axis=-1)[..., None, :]


def inverse_norm(x: Float[Array, "..."], axis: int) -> Float[Array, "..."]:
    """Inverse norm along an axis, `1 / sqrt(|x|² + EPSILON²)`, finite for zero vectors."""
    x = x.astype(jnp.float32)
    return lax.rsqrt(jnp.sum(x * x, axis=axis) + EPSILON**2)


@jax.custom_vjp
def additive(
    queries: Float[Array, "*B T A"], keys: Float[Array, "*B S A"], params: Float[Array, "*#B A"]
) -> Float[Array, "*B T S"]:
    """Additive score with one hidden layer, `v · tanh(q + k)`.

    Source: Bahdanau et al. 2015, app. A.1.2. If the projections of queries and keys are the two
    halves of one matrix, the score is "concat" of Luong et al. 2015, sec. 3.1.

    Args:
        queries: `[*B, T, A]`, the decoder states times W_a.
        keys: `[*B, S, A]`, the annotations times U_a.
        params: v_a, `[A]`; or `[*B, A]`, one per sequence.

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
    """Recompute the hidden layer one query at a time, so that `[T, S, A]` is never stored.

    The gradient of v keeps its batch axes until the end of the loop. If sequences are sharded over
    devices, this gradient then needs one all-reduce instead of one per query.
    """
    queries, keys, params = residuals

    def query(carry, xs):
        d_keys, d_params = carry
        q, d = xs
        hidden = jnp.tanh(q[..., None, :] + keys).astype(jnp.float32)
        d_params += jnp.einsum("...s,...sa->...a", d, hidden)
        d_hidden = d[..., None] * (1.0 - hidden * hidden)
        return (d_keys + d_hidden, d_params), d_hidden.sum(-2)

    zeros = jnp.zeros(keys.shape), jnp.zeros(keys.shape[:-2] + keys.shape[-1:])
    xs = jnp.moveaxis(queries, -2, 0), jnp.moveaxis(d_logits, -2, 0)
    (d_keys, d_params), d_queries = lax.scan(query, zeros, xs)
    d_queries = jnp.moveaxis(d_queries, 0, -2)
    v = params[..., None, :]
    return (
        (v * d_queries).astype(queries.dtype),
        (v * d_keys).astype(keys.dtype),
        _sum_to_shape(d_params, params.shape).astype(params.dtype),
    )


def _sum_to_shape(x, shape):
    """Sum over broadcast axes, the transpose of `broadcast_to`."""
    x = x.sum(tuple(range(x.ndim - len(shape))))
    return x.sum(tuple(n for n, size in enumerate(shape) if size != x.shape[n]), keepdims=True)


additive.defvjp(_additive_forward, _additive_backward)
