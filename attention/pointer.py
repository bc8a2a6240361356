"""Attention as output: the weights over the inputs are the answer, one of the inputs.

Source: Vinyals et al. 2015, "Pointer Networks", sec. 2.3: `u_j = v · tanh(W1 e_j + W2 d_i)`, and
`p(C_i | C_1 ... C_{i-1}, P) = softmax(u)`. Any score of `attention.scores` will do for u. The
glimpse and the bound on logits are those of Bello et al. 2016, "Neural Combinatorial Optimization
with Reinforcement Learning", sec. 3 and appendix A.

Masks are true where a choice is allowed, as everywhere; logits of what is not are -inf.
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
    """Logits of each query's choice of a key: u, whose softmax is the answer.

    `log_soft` makes log-probabilities of them; the likeliest choice needs none.

    Source: Vinyals et al. 2015, sec. 2.3; with a bound, Bello et al. 2016, appendix A.

    Args:
        queries: `[*B, T, K]`, projected.
        keys: `[*B, S, K]`, projected once per sequence by the caller.
        score: maps queries and keys to logits.
        params: the score's own weights.
        mask: broadcastable to `[*B, T, S]`, true where a key may be chosen.
        bound: C, of the logits; 0 for none.

    Returns:
        `[*B, T, S]` in float32, -inf where nothing may be chosen.
    """
    logits = clip(score(queries, keys, params), bound).astype(jnp.float32)
    return logits if mask is None else jnp.where(mask, logits, -jnp.inf)


def clip(logits: Float[Array, "*B T S"], bound: float) -> Float[Array, "*B T S"]:
    """`C tanh(u)`, which keeps a policy from being too sure too soon.

    Source: Bello et al. 2016, appendix A.

    Args:
        logits: u, `[*B, T, S]`.
        bound: C; 0 leaves the logits as they are.
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
    """A look at the inputs before one is chosen: what the next query is made of.

    Source: Bello et al. 2016, appendix A: `g = Σ_i p_i r_i`, p by the same attention that points.

    Args:
        queries: `[*B, T, K]`, projected.
        keys: `[*B, S, K]`, projected.
        values: r, `[*B, S, V]`.
        score: maps queries and keys to logits.
        params: the score's own weights.
        mask: as of `point`: what may not be chosen is not looked at.
    """
    return attend(queries, keys, values, score=score, params=params, mask=mask)[0]


def chosen_before(choices: Int[Array, "*B T"], size: int) -> Bool[Array, "*B T S"]:
    """Which keys were chosen before each step, of a whole sequence of choices at once.

    Args:
        choices: `[*B, T]`; what is not below `size` chooses nothing.
        size: S.
    """
    chosen = jax.nn.one_hot(choices, size, dtype=jnp.int32)
    return (jnp.cumsum(chosen, axis=-2) - chosen) > 0
