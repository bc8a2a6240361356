"""Attention as the composition of a score, an alignment and a read."""

from typing import Any

import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from attention.alignments import Alignment, soft
from attention.scores import Score, scaled_dot


def read(weights: Float[Array, "*B T S"], values: Float[Array, "*B S V"]) -> Float[Array, "*B T V"]:
    """Weighted sum of the values (Bahdanau et al. 2015, eq. 5), in the values' dtype."""
    return jnp.einsum(
        "...ts,...sv->...tv",
        weights.astype(values.dtype),
        values,
        preferred_element_type=jnp.float32,
    ).astype(values.dtype)


def attend(
    queries: Float[Array, "*B T K"],
    keys: Float[Array, "*B S K"],
    values: Float[Array, "*B S V"],
    *,
    score: Score = scaled_dot,
    params: Any = None,
    alignment: Alignment = soft,
    mask: Bool[Array, "*#B #T #S"] | None = None,
) -> tuple[Float[Array, "*B T V"], Float[Array, "*B T S"]]:
    """Attend from queries to keys and read the values.

    Args:
        queries: `[*B, T, K]`, projected.
        keys: `[*B, S, K]`, projected once per sequence by the caller.
        values: `[*B, S, V]`.
        score: maps queries and keys to logits.
        params: parameters of the score.
        alignment: maps logits to weights.
        mask: broadcastable to `[*B, T, S]`, true where a query may attend.

    Returns:
        Contexts `[*B, T, V]` in the values' dtype and weights `[*B, T, S]` in float32.
    """
    weights = alignment(score(queries, keys, params), mask)
    return read(weights, values), weights
