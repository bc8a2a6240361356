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
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from attention import reinforce_loss
from tasks.base import Supervised
from training.errors import UserError
from training.state import TrainState

DECAY = 0.9  # decay of the moving-average baseline (Xu et al. 2015, sec. 4.1)


class HardAttentionState(NamedTuple):
    """Fields of `TrainState`, and the baseline."""

    step: Int[Array, ""]
    params: Any
    opt_state: Any
    baseline: Float[Array, ""]  # moving average of the log-probability of a target token, in nats


class SampledAttention(Supervised):
    """Mixin for supervised tasks with hard alignment; a subclass also has the class of its task.

    The baseline is a field of the state. The batch that `loss` receives contains the baseline as
    `baseline` `[B]`. The metrics of `loss` must contain the metrics of `reinforce_terms`. The class
    of the task defines `generation_metrics(state, split, width, key)`, the metrics with beam width
    `width`; with a PRNG key, alignments are sampled, else they are the most probable ones.
    """

    samples_attention = True
    config: Any
    generation_metrics: Callable[..., dict[str, float]]
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

    def evaluate(self, state: Any, split: str) -> dict[str, float]:
        """Compute the metrics of the task; on test splits also with sampled alignments."""
        values = super().evaluate(state, split)
        if split in self.splits:
            key = jax.random.key(self.config.seed)
            sampled = self.generation_metrics(state, split, width=1, key=key)
            values |= {f"{name}_sampled": value for name, value in sampled.items()}
        return values


def check_alignment(model_samples: bool, task_samples: bool, task: str, package: str) -> None:
    """Check that a model with hard alignment is trained by a task with the REINFORCE loss.

    Args:
        model_samples: whether the model has hard alignment.
        task_samples: whether the task trains models with hard alignment, and no others.
        task: `config.task`.
        package: package whose module `hard_attention` trains such models.

    Raises:
        UserError: if model and task do not match.
    """
    if model_samples != task_samples:
        raise UserError(
            f"model.attention.alignment='hard' requires --config.task={package}.hard_attention, "
            f"which supports no other alignment; the task is '{task}'."
        )


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
