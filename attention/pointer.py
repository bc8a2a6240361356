"""Attention as output: a distribution over the input positions.

Source: Vinyals et al. 2015, "Pointer Networks", sec. 2.3: `u_j = v · tanh(W1 e_j + W2 d_i)`, and
`p(C_i | C_1 ... C_{i-1}, P) = softmax(u)`. Any score of `attention.scores` computes u. The glimpse
and the bound on logits follow Bello et al. 2016, "Neural Combinatorial Optimization with
Reinforcement Learning", sec. 3 and appendix A.

Masks are true where a key may be chosen; the logits of other keys are -inf.
"""

from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from attention.attend import attend
from attention.scores import Score, additive


def point(
    queries: Float[Array, "*B T K"],
    keys: Float[Array, "*B S K"],
    *,
    score: Score = additive,
    params: Any = None,
    mask: Bool[Array, "*#B #T #S"] | None = None,
    bound: float = 0.0,
) -> Float[Array, "*B T S"]:
    """Pointer logits u of each query over the keys; `log_soft` gives log-probabilities.

    Source: Vinyals et al. 2015, sec. 2.3; with a bound, Bello et al. 2016, appendix A.

    Args:
        queries: `[*B, T, K]`, projected.
        keys: `[*B, S, K]`, projected once per sequence by the caller.
        score: maps queries and keys to logits.
        params: parameters of the score.
        mask: broadcastable to `[*B, T, S]`, true where a key may be chosen.
        bound: C, bound of the logits; 0 for unbounded logits.

    Returns:
        `[*B, T, S]` in float32, -inf where a key may not be chosen.
    """
    logits = clip(score(queries, keys, params), bound).astype(jnp.float32)
    return logits if mask is None else jnp.where(mask, logits, -jnp.inf)


def clip(logits: Float[Array, "*B T S"], bound: float) -> Float[Array, "*B T S"]:
    """Bounded logits, `C tanh(u)`, which keep the entropy of a policy high early in training.

    Source: Bello et al. 2016, appendix A.

    Args:
        logits: u, `[*B, T, S]`.
        bound: C; 0 returns the logits unchanged.
    """
    return bound * jnp.tanh(logits) if bound else logits


def glimpse(
    queries: Float[Array, "*B T K"],
    keys: Float[Array, "*B S K"],
    values: Float[Array, "*B S V"],
    *,
    score: Score = additive,
    params: Any = None,
    mask: Bool[Array, "*#B #T #S"] | None = None,
) -> Float[Array, "*B T V"]:
    """Glimpse `g = Σ_i p_i r_i`, an attention read of the inputs that replaces the query.

    Source: Bello et al. 2016, appendix A.

    Args:
        queries: `[*B, T, K]`, projected.
        keys: `[*B, S, K]`, projected.
        values: r, `[*B, S, V]`.
        score: maps queries and keys to logits.
        params: parameters of the score.
        mask: broadcastable to `[*B, T, S]`, true where a key may be chosen.
    """
    return attend(queries, keys, values, score=score, params=params, mask=mask)[0]


def chosen_before(choices: Int[Array, "*B T"], size: int) -> Bool[Array, "*B T S"]:
    """Mask of the keys chosen before each step of a sequence of choices.

    Args:
        choices: `[*B, T]`, indices of keys; indices of `size` or more are ignored.
        size: S.
    """
    chosen = jax.nn.one_hot(choices, size, dtype=jnp.int32)
    return (jnp.cumsum(chosen, axis=-2) - chosen) > 0
