"""Training with sampled (hard) attention by REINFORCE, for tasks that generate tokens.

Source: Xu et al. 2015, sec. 4.1. The cross-entropy has no gradient through a sampled alignment.
Therefore the log-probability of each sample is weighted by the reward (the log-probability of the
target tokens, without label smoothing) minus a moving-average baseline. The entropy of the
alignment is added as a bonus, and a fraction of the examples uses soft weights instead of samples
(`model.attention.expectation_probability`).

Two refinements keep the gradient estimate unbiased. The reward of a sample is summed over the
tokens at and after its position, because earlier tokens do not depend on it. The baseline is one
value per token, so that sequences of all lengths share it.
"""

import math
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from attention import reinforce_loss
from tasks.base import Supervised
from training.state import TrainState

DECAY = 0.9  # decay of the moving-average baseline (Xu et al. 2015, sec. 4.1)


class HardAttentionState(NamedTuple):
    """Fields of `TrainState`, and the baseline."""

    step: Int[Array, ""]
    params: Any
    opt_state: Any
    baseline: Float[Array, ""]  # moving average of the log-probability of a target token, in nats


class SampledAttention(Supervised):
    """Base class of supervised tasks that sample alignments.

    The baseline is a field of the state. The batch that `loss` receives contains the baseline as
    `baseline` `[B]`. The metrics of `loss` must contain the metrics of `reinforce_terms`.
    """

    vocabulary_size: int

    def init(self, key: Array) -> HardAttentionState:
        """Initialize the baseline to the log-probability of a uniform distribution over tokens."""
        state = super().init(key)
        baseline = jnp.float32(-math.log(self.vocabulary_size))
        return HardAttentionState(state.step, state.params, state.opt_state, baseline)

    def train_step(self, state, batch, key):
        """Update the parameters and the baseline."""
        # One copy per example, because gradient accumulation splits every array of the batch.
        examples = len(jax.tree.leaves(batch)[0])
        batch = batch | {"baseline": jnp.full(examples, state.baseline)}
        new, metrics = super().train_step(TrainState(*state[:3]), batch, key)
        baseline = DECAY * state.baseline + (1 - DECAY) * metrics["log_prob"]
        return HardAttentionState(*new, baseline), metrics


def reinforce_terms(
    reward: Float[Array, "B T"],
    log_prob: Float[Array, "B T"],
    entropy: Float[Array, "B T"],
    valid: Bool[Array, "B T"],
    baseline: Float[Array, " B"],
    entropy_weight: float,
) -> tuple[Float[Array, ""], dict[str, Float[Array, ""]]]:
    """REINFORCE loss and entropy bonus of sampled alignments.

    Args:
        reward: log-probability of each target token, in nats.
        log_prob: log-probability of the alignment sampled for each target token, in nats.
        entropy: entropy of the alignment of each target token, in nats.
        valid: false at padding.
        baseline: baseline of a token of each example.
        entropy_weight: lambda_e, weight of the entropy bonus.

    Returns:
        The loss summed over tokens, and the sums of the reward and the entropy over tokens.
    """
    reward = jnp.where(valid, reward, 0.0)
    advantage = jnp.where(valid, reward - baseline[:, None], 0.0)
    advantage_to_go = jnp.cumsum(advantage[:, ::-1], axis=1)[:, ::-1]
    surrogate = reinforce_loss(log_prob, advantage_to_go, jnp.zeros(()))
    loss = jnp.sum(jnp.where(valid, surrogate - entropy_weight * entropy, 0.0))
    return loss, {"log_prob": reward.sum(), "entropy": jnp.sum(jnp.where(valid, entropy, 0.0))}
