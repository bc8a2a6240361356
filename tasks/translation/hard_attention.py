"""Translation with sampled (hard) attention, trained by REINFORCE.

Source: Xu et al. 2015, sec. 4.1. The cross-entropy has no gradient through a sampled alignment.
Therefore the log-probability of each sample is weighted by the reward (the log-probability of the
target tokens, without label smoothing) minus a moving-average baseline. The entropy of the
alignment is added as a bonus, and a fraction of the sentences uses soft weights instead of samples
(`model.attention.expectation_probability`).

Two refinements keep the gradient estimate unbiased. The reward of a sample is summed over the
tokens at and after its position, because earlier tokens do not depend on it. The baseline is one
value per token, so that sentences of all lengths share it.
"""

import math
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from attention import reinforce_loss
from tasks.translation.cross_entropy import log_probs
from tasks.translation.data.vocabulary import PAD
from tasks.translation.task import Translation
from training.state import TrainState

DECAY = 0.9  # decay of the moving-average baseline (Xu et al. 2015, sec. 4.1)


def build(config: Any, workdir: str) -> "HardAttention":
    """See `tasks.translation.task.build`."""
    task = build_abstract(config, workdir)
    task.check_data()
    return task


def build_abstract(config: Any, workdir: str) -> "HardAttention":
    """See `tasks.translation.task.build_abstract`."""
    return HardAttention(config, Path(workdir))


class HardAttentionState(NamedTuple):
    """Fields of `TrainState`, and the baseline."""

    step: Int[Array, ""]
    params: Any
    opt_state: Any
    baseline: Float[Array, ""]  # moving average of the log-probability of a target token, in nats


class HardAttention(Translation):
    """Translation for models with `model.attention.alignment='hard'`.

    Evaluation attends to the most probable position. On test splits, metrics with the suffix
    `_sampled` are computed with sampled alignments and greedy decoding.
    """

    samples_attention = True

    def init(self, key: Array) -> HardAttentionState:
        """Initialize the baseline to the log-probability of a uniform distribution over tokens."""
        state = super().init(key)
        baseline = jnp.float32(-math.log(self.vocabulary_size))
        return HardAttentionState(state.step, state.params, state.opt_state, baseline)

    def train_step(self, state, batch, key):
        """Update the parameters and the baseline."""
        # One copy per example, because gradient accumulation splits every array of the batch.
        baseline = jnp.full(len(batch["target"]), state.baseline)
        new, metrics = super().train_step(
            TrainState(*state[:3]), batch | {"baseline": baseline}, key
        )
        baseline = DECAY * state.baseline + (1 - DECAY) * metrics["log_prob"]
        return HardAttentionState(*new, baseline), metrics

    def loss(self, params, batch, key):
        """Cross-entropy, REINFORCE term and entropy bonus, summed over target tokens."""
        model, states, alignment = self._teacher_force(params, batch, key)
        loss, tokens = self._cross_entropy(model, states, batch, self.config.label_smoothing)
        valid = batch["target"] != PAD
        table = model.output_embedding.astype(states.dtype)
        reward = jnp.where(valid, log_probs(states, table, batch["target"]), 0.0)
        advantage = jnp.where(valid, reward - batch["baseline"][:, None], 0.0)
        advantage_to_go = jnp.cumsum(advantage[:, ::-1], axis=1)[:, ::-1]
        surrogate = reinforce_loss(alignment.log_prob, advantage_to_go, jnp.zeros(()))
        bonus = model.attention_layer.entropy_weight * alignment.entropy
        loss += jnp.sum(jnp.where(valid, surrogate - bonus, 0.0))
        entropy = jnp.sum(jnp.where(valid, alignment.entropy, 0.0))
        return loss, tokens, {"log_prob": reward.sum(), "entropy": entropy}

    def evaluate(self, state: Any, split: str) -> dict[str, float]:
        """Compute the metrics of `Translation`; on test splits also with sampled alignments."""
        values = super().evaluate(state, split)
        if split in self.splits:
            key = jax.random.key(self.config.seed)
            sampled = self._metrics(state, split, width=1, key=key)
            values |= {f"{name}_sampled": value for name, value in sampled.items()}
        return values
