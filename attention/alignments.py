"""Alignments: attention weights from logits.

Every alignment maps logits `[*B, T, S]` and an optional mask to weights of the same shape. A fully
masked row gets zero weights, never NaN. Local attention, which computes the logits of a window
only, is in `local.py`.
"""

from typing import NamedTuple, Protocol, runtime_checkable

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Bool, Float, PRNGKeyArray


@runtime_checkable
class Alignment(Protocol):
    """Signature of the deterministic alignments."""

    def __call__(
        self, logits: Float[Array, "*B T S"], mask: Bool[Array, "*#B #T #S"] | None = None
    ) -> Float[Array, "*B T S"]: ...


def soft(
    logits: Float[Array, "*B T S"], mask: Bool[Array, "*#B #T #S"] | None = None
) -> Float[Array, "*B T S"]:
    """Soft, global alignment: softmax over the unmasked keys.

    Source: Bahdanau et al. 2015, eq. 6; Vaswani et al. 2017, eq. 1.

    Args:
        logits: `[*B, T, S]`.
        mask: broadcastable to the logits, true where a query may attend.

    Returns:
        Weights `[*B, T, S]` in float32. Each row sums to one, or is zero if fully masked.
    """
    return _softmax(_mask_logits(logits, mask))


@jax.custom_jvp
def _softmax(logits):
    """Softmax whose JVP reuses the output, so no other residual is stored."""
    weights = jnp.exp(_subtract_max(logits))
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
    """Logarithm of the weights of `soft`, finite even where a weight underflows to zero.

    Args:
        logits: `[*B, T, S]`.
        mask: broadcastable to the logits, true where a query may attend.

    Returns:
        `[*B, T, S]` in float32, -inf at masked keys. Gradients are finite everywhere, including at
        masked keys and in fully masked rows.
    """
    logits = _subtract_max(_mask_logits(logits, mask))
    total = jnp.sum(jnp.exp(logits), axis=-1, keepdims=True)
    return logits - jnp.log(jnp.where(total == 0.0, 1.0, total))


def _subtract_max(logits):
    """Subtract the row maximum, so that `exp` cannot overflow."""
    maximum = lax.stop_gradient(jnp.max(logits, axis=-1, keepdims=True))
    return logits - jnp.where(jnp.isneginf(maximum), 0.0, maximum)


def _mask_logits(logits, mask):
    """Cast logits to float32 and set masked entries to -inf."""
    logits = logits.astype(jnp.float32)
    return logits if mask is None else jnp.where(mask, logits, -jnp.inf)


def argmax(
    logits: Float[Array, "*B T S"], mask: Bool[Array, "*#B #T #S"] | None = None
) -> Float[Array, "*B T S"]:
    """One-hot weights on the key with the largest logit (deterministic hard alignment).

    Args:
        logits: `[*B, T, S]`.
        mask: broadcastable to the logits, true where a query may attend.

    Returns:
        Weights `[*B, T, S]` of zeros and ones; ties go to the first key. They have no gradient.
    """
    logits = _mask_logits(logits, mask)
    one_hot = jax.nn.one_hot(jnp.argmax(logits, axis=-1), logits.shape[-1])
    return jnp.where(jnp.isneginf(logits), 0.0, one_hot)


class HardAlignment(NamedTuple):
    """Sampled alignment and the terms of its score-function gradient estimator."""

    weights: Float[Array, "*B T S"]  # one-hot at the sampled key
    log_prob: Float[Array, "*B T"]  # log-probability of the sampled key
    entropy: Float[Array, "*B T"]  # entropy of the distribution over keys, in nats


def hard(
    logits: Float[Array, "*B T S"],
    key: PRNGKeyArray,
    mask: Bool[Array, "*#B #T #S"] | None = None,
) -> HardAlignment:
    """Hard alignment: one key per query, sampled from the softmax of the logits.

    Source: Xu et al. 2015, eq. 8 and 9. The weights have no gradient; train the logits with
    `reinforce_loss` of the log-probability, or use `straight_through`.

    Args:
        logits: `[*B, T, S]`.
        key: PRNG key of the sample.
        mask: broadcastable to the logits, true where a query may attend.

    Returns:
        The sample. A fully masked row has zero weights, log-probability and entropy.
    """
    noise = jax.random.gumbel(key, logits.shape)  # Gumbel-max trick
    weights = argmax(lax.stop_gradient(logits.astype(jnp.float32)) + noise, mask)
    probs = soft(logits, mask)
    # Zero where the probability is zero, because 0 * -inf is NaN.
    log_probs = jnp.where(probs > 0.0, log_soft(logits, mask), 0.0)
    return HardAlignment(weights, jnp.sum(weights * log_probs, -1), -jnp.sum(probs * log_probs, -1))


def straight_through(
    logits: Float[Array, "*B T S"],
    key: PRNGKeyArray,
    mask: Bool[Array, "*#B #T #S"] | None = None,
    temperature: float = 1.0,
) -> Float[Array, "*B T S"]:
    """Hard alignment with the gradient of its softmax relaxation (biased, low variance).

    Source: Jang et al. 2017, "Categorical Reparameterization with Gumbel-Softmax", sec. 2.2.

    Args:
        logits: `[*B, T, S]`.
        key: PRNG key of the sample.
        mask: broadcastable to the logits, true where a query may attend.
        temperature: temperature of the softmax relaxation.

    Returns:
        Weights `[*B, T, S]`, one-hot at the sampled key.
    """
    noisy = (logits.astype(jnp.float32) + jax.random.gumbel(key, logits.shape)) / temperature
    relaxed = soft(noisy, mask)
    return relaxed + lax.stop_gradient(argmax(noisy, mask) - relaxed)


def doubly_stochastic_penalty(
    weights: Float[Array, "*B T S"], valid: Bool[Array, "*B T"]
) -> Float[Array, "*B"]:
    """Penalty on positions whose weights over all steps do not sum to one, `Σ_s (1 - Σ_t α_ts)²`.

    Source: Xu et al. 2015, eq. 14.

    Args:
        weights: `[*B, T, S]`.
        valid: false at padded steps, which are not counted.
    """
    totals = jnp.sum(jnp.where(valid[..., None], weights, 0.0), axis=-2)
    return jnp.sum((1.0 - totals) ** 2, axis=-1)


def reinforce_loss(
    log_prob: Float[Array, "*B"], reward: Float[Array, "*#B"], baseline: Float[Array, "*#B"]
) -> Float[Array, "*B"]:
    """Surrogate loss whose gradient is an unbiased estimate of `-∇ E[reward]`.

    Source: Williams 1992, REINFORCE; Xu et al. 2015, sec. 4.1.

    Args:
        log_prob: log-probability of each sample.
        reward: reward of each sample, treated as a constant.
        baseline: variance-reducing baseline, independent of the sample, treated as a constant.
    """
    return -lax.stop_gradient(reward - baseline) * log_prob
