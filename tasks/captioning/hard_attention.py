"""Captioning with sampled (hard) attention; see `tasks.hard_attention`."""

from pathlib import Path
from typing import Any

from tasks.captioning.task import Captioning
from tasks.cross_entropy import log_probs
from tasks.hard_attention import SampledAttention, reinforce_terms
from tasks.vocabulary import PAD


def build(config: Any, workdir: str) -> "HardAttention":
    """See `tasks.captioning.task.build`."""
    task = build_abstract(config, workdir)
    task.check_data()
    return task


def build_abstract(config: Any, workdir: str) -> "HardAttention":
    """See `tasks.captioning.task.build_abstract`."""
    return HardAttention(config, Path(workdir))


class HardAttention(SampledAttention, Captioning):
    """Captioning for models with `model.attention.alignment='hard'`.

    The doubly stochastic penalty, which the paper has for soft attention only, is not used.
    Evaluation attends to the most probable position. On test splits, metrics with the suffix
    `_sampled` are computed with sampled alignments and greedy decoding.
    """

    def loss(self, params, batch, key):
        """Cross-entropy, REINFORCE term and entropy bonus, summed over words."""
        model, states, alignment = self._teacher_force(params, batch, key)
        loss, words = self._cross_entropy(model, states, batch)
        reinforce, sums = reinforce_terms(
            log_probs(states, model.output_embedding, batch["caption"]),
            alignment.log_prob,
            alignment.entropy,
            batch["caption"] != PAD,
            batch["baseline"],
            model.attention_layer.entropy_weight,
        )
        return loss + reinforce, words, sums | {"cross_entropy": loss}
