"""Translation with sampled (hard) attention; see `tasks.hard_attention`."""

from pathlib import Path
from typing import Any

from tasks.cross_entropy import log_probs
from tasks.hard_attention import SampledAttention, reinforce_terms
from tasks.translation.decoding import cross_entropy
from tasks.translation.task import Translation
from tasks.vocabulary import PAD


def build(config: Any, workdir: str) -> "HardAttention":
    """See `tasks.translation.task.build`."""
    task = build_abstract(config, workdir)
    task.check_data()
    return task


def build_abstract(config: Any, workdir: str) -> "HardAttention":
    """See `tasks.translation.task.build_abstract`."""
    return HardAttention(config, Path(workdir))


class HardAttention(SampledAttention, Translation):
    """Translation for models with `model.attention.alignment='hard'`.

    Evaluation attends to the most probable position. On test splits, metrics with the suffix
    `_sampled` are computed with sampled alignments and greedy decoding.
    """

    def loss(self, params, batch, key):
        """Cross-entropy, REINFORCE term and entropy bonus, summed over target tokens."""
        model, states, alignment = self._teacher_force(params, batch, key)
        loss, tokens = cross_entropy(model, states, batch["target"], self.config.label_smoothing)
        reward = log_probs(states, model.output_embedding, batch["target"])
        reinforce, metrics = reinforce_terms(
            reward,
            alignment.log_prob,
            alignment.entropy,
            batch["target"] != PAD,
            batch["baseline"],
            model.attention_layer.entropy_weight,
        )
        return loss + reinforce, tokens, metrics
