"""Scores: how well each key answers each query, as logits.

Every score is a pure function `score(queries, keys, params)` of already projected queries and keys
and of its own weights (`None` where it has none), and returns one logit per (query, key) pair. As
the signature is shared, masks, heads, caches and the memory-linear evaluation in `blockwise.py`
work for each of them.
"""

from typing import Any, Protocol, runtime_checkable

import jax.numpy as jnp
from jaxtyping import Array, Float


@runtime_checkable
class Score(Protocol):
    """The signature all scores share. Logits are float32 whatever the inputs are."""

    def __call__(
        self, queries: Float[Array, "*B T K"], keys: Float[Array, "*B S K"], params: Any = None
    ) -> Float[Array, "*B T S"]: ...


def scaled_dot(
    queries: Float[Array, "*B T K"], keys: Float[Array, "*B S K"], params: None = None
) -> Float[Array, "*B T S"]:
    """Scaled dot product, `q · k / sqrt(K)`.

    Source: Vaswani et al. 2017, eq. 1. The scale multiplies the queries, which is the same number
    and touches T·K elements instead of T·S.

    Args:
        queries: `[*B, T, K]`.
        keys: `[*B, S, K]`.
        params: none; here because every score has the same signature.

    Returns:
        Logits `[*B, T, S]` in float32.
    """
    del params
    width = queries.shape[-1]
    scale = jnp.asarray(width**-0.5, queries.dtype)
    return jnp.einsum(
        "...tk,...sk->...ts", queries * scale, keys, preferred_element_type=jnp.float32
    )
