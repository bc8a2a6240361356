"""Alignments: from logits to weights over the keys.

Every alignment maps logits `[*B, T, S]` and an optional mask to weights of the same shape. A row in
which nothing may be attended to gets weights of zero, never NaN. Alignments that look at a window
only, and so compute no other logits, are in `local.py`.
"""

from typing import NamedTuple, Protocol, runtime_checkable

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Bool, Float, PRNGKeyArray


@runtime_checkable
class Alignment(Protocol):
    """The signature all alignments share."""

    def __call__(
        self, logits: Float[Array, "*B T S"], mask: Bool[Array, "*#B #T #S"] | None = None
    ) -> Float[Array, "*B T S"]: ...


def soft(
    logits: Float[Array, "*B T S"], mask: Bool[Array, "*#B #T #S"] | None = None
) -> Float[Array, "*B T S"]:
    """Soft, global alignment: a softmax over all keys that the mask leaves.

    Source: Bahdanau et al. 2015, eq. 6; Vaswani et al. 2017, eq. 1.

    Args:
        logits: `[*B, T, S]`.
        mask: broadcastable to the logits, true where a query may look.

    Returns:
        Weights `[*B, T, S]` in float32. Each row sums to one, or is zero if fully masked.
    """
    return _softmax(_masked(logits, mask))


@jax.custom_jvp
def _softmax(logits):
    """Its derivative is told by the weights alone: nothing else is kept or computed again."""
    weights = jnp.exp(_lowered(logits))
    total = jnp.sum(weights, axis=-1, keepdims=True)
    return weights / jnp.where(total == 0.0, 1.0, total)


@_softmax.defjvp
def _softmax_jvp(primals, tangents):
    weights, (d_logits,) = _softmax(*primals), tangents
    mean = jnp.sum(weights * d_logits, axis=-1, keepdims=True)
    return weights, weights * (d_logits - mean)


def log_soft(
    logits: Float[Array, "*B T S"], mask: Bool[Array, "*#B #T #S"] | None = None
) -> Float[Array, "*B T S"]:
    """Logarithms of the weights of `soft`, also of those too small to be told from zero.

    Args:
        logits: `[*B, T, S]`.
        mask: broadcastable to the logits, true where a query may look.

    Returns:
        `[*B, T, S]` in float32, -inf where masked, the whole of a row that is masked altogether
        included. No gradient is NaN, not even that of a masked element.
    """
    logits = _lowered(_masked(logits, mask))
    total = jnp.sum(jnp.exp(logits), axis=-1, keepdims=True)
    return logits - jnp.log(jnp.where(total == 0.0, 1.0, total))


def _lowered(logits):
    """Less the highest of their row, so that no exponential is too large."""
    peak = lax.stop_gradient(jnp.max(logits, axis=-1, keepdims=True))
    return logits - jnp.where(jnp.isneginf(peak), 0.0, peak)


def _masked(logits, mask):
    """Logits in float32, -inf where a query may not look."""
    logits = logits.astype(jnp.float32)
    return logits if mask is None else jnp.where(mask, logits, -jnp.inf)


def hardest(
    logits: Float[Array, "*B T S"], mask: Bool[Array, "*#B #T #S"] | None = None
) -> Float[Array, "*B T S"]:
    """All weight on the key of the highest logit: hard alignment without its dice.

    Args:
        logits: `[*B, T, S]`.
        mask: broadcastable to the logits, true where a query may look.

    Returns:
        Weights `[*B, T, S]`, ones and zeros; of equals the first key wins. They have no gradient.
    """
    logits = _masked(logits, mask)
    one_hot = jax.nn.one_hot(jnp.argmax(logits, axis=-1), logits.shape[-1])
    return jnp.where(jnp.isneginf(logits), 0.0, one_hot)


class Choice(NamedTuple):
    """What hard alignment drew, and what the score-function estimator needs to know of it."""

    weights: Float[Array, "*B T S"]  # one at the key that was drawn, zero elsewhere
    log_prob: Float[Array, "*B T"]  # of that key
    entropy: Float[Array, "*B T"]  # of the distribution it was drawn from, in nats


def hard(
    logits: Float[Array, "*B T S"],
    key: PRNGKeyArray,
    mask: Bool[Array, "*#B #T #S"] | None = None,
) -> Choice:
    """Hard alignment: one key, drawn from the softmax of the logits.

    Source: Xu et al. 2015, eq. 8 and 9. The weights have no gradient; train the logits by
    `score_function` of the log-probability, or use `straight_through`.

    Args:
        logits: `[*B, T, S]`.
        key: of the draw.
        mask: broadcastable to the logits, true where a query may look.

    Returns:
        The choice. A fully masked row has weights, log-probability and entropy of zero.
    """
    noise = jax.random.gumbel(key, logits.shape)  # the highest of logit + noise is such a draw
    weights = hardest(lax.stop_gradient(logits.astype(jnp.float32)) + noise, mask)
    probs = soft(logits, mask)
    # Where there is no probability its logarithm is not wanted, be it infinite.
    log_probs = jnp.where(probs > 0.0, log_soft(logits, mask), 0.0)
    return Choice(weights, jnp.sum(weights * log_probs, -1), -jnp.sum(probs * log_probs, -1))


def straight_through(
    logits: Float[Array, "*B T S"],
    key: PRNGKeyArray,
    mask: Bool[Array, "*#B #T #S"] | None = None,
    temperature: float = 1.0,
) -> Float[Array, "*B T S"]:
    """Hard alignment with the gradient of its relaxation: biased, but of low variance.

    Source: Jang et al. 2017, "Categorical Reparameterization with Gumbel-Softmax", sec. 2.2.

    Args:
        logits: `[*B, T, S]`.
        key: of the draw.
        mask: broadcastable to the logits, true where a query may look.
        temperature: of the softmax whose gradient is taken.

    Returns:
        Weights `[*B, T, S]`: one at the key that was drawn and zero elsewhere.
    """
    noisy = (logits.astype(jnp.float32) + jax.random.gumbel(key, logits.shape)) / temperature
    relaxed = soft(noisy, mask)
    return relaxed + lax.stop_gradient(hardest(noisy, mask) - relaxed)


def score_function(
    log_prob: Float[Array, "*B"], reward: Float[Array, "*#B"], baseline: Float[Array, "*#B"]
) -> Float[Array, "*B"]:
    """A loss whose gradient estimates that of the expected reward, negated, without bias.

    Source: Williams 1992, REINFORCE; Xu et al. 2015, sec. 4.1.

    Args:
        log_prob: of what was drawn.
        reward: what the draw led to; the larger, the better. Taken as a constant.
        baseline: anything that does not depend on the draw; it lowers the variance. A constant.
    """
    return -lax.stop_gradient(reward - baseline) * log_prob
