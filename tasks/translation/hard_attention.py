"""Translation by a model that draws where it looks, and so is trained by the score function.

Xu et al. 2015, sec. 4.1: besides the cross-entropy, whose gradient does not pass through a draw,
the log-probability of each draw is raised by how much better than usual things went after it; the
entropy of what is drawn from gets a bonus; and a share of the sentences read their expectation
instead (`model.attention.expected`).

Two refinements, which leave the estimate unbiased (what is raised is the log-probability without
label smoothing): a draw answers only for the tokens from its own on, not for those before it; and
the baseline, a moving average as in the paper, is one per token, so that sentences of all lengths
can share it.
"""

import math
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from attention import score_function
from tasks.translation.cross_entropy import log_probs
from tasks.translation.data.vocabulary import PAD
from tasks.translation.task import Translation
from training.state import TrainState

DECAY = 0.9  # of the baseline (Xu et al. 2015, sec. 4.1)


def build(config: Any, workdir: str) -> "HardAttention":
    """As `tasks.translation.task.build`."""
    task = build_abstract(config, workdir)
    task.open()
    return task


def build_abstract(config: Any, workdir: str) -> "HardAttention":
    """As `tasks.translation.task.build_abstract`."""
    return HardAttention(config, Path(workdir))


class HardState(NamedTuple):
    """A `TrainState`, and the baseline: a moving average of the log-probability of a token."""

    step: Int[Array, ""]
    params: Any
    opt_state: Any
    baseline: Float[Array, ""]


class HardAttention(Translation):
    """See the module; for models whose `model.attention.alignment` is `hard`.

    In evaluation the likeliest position is looked at; the measures with `_drawn` after their name
    are those of a position drawn, as in training, and of greedy decoding.
    """

    draws = True

    def init(self, key: Array) -> HardState:
        """Before it has seen anything a model finds all tokens equally likely."""
        state = super().init(key)
        baseline = jnp.float32(-math.log(self.pieces))
        return HardState(state.step, state.params, state.opt_state, baseline)

    def train_step(self, state, batch, key):
        """One update of the parameters, and of the baseline."""
        # Spread over the rows, so that it is cut with them for accumulation.
        baseline = jnp.full(len(batch["target"]), state.baseline)
        new, metrics = super().train_step(
            TrainState(*state[:3]), batch | {"baseline": baseline}, key
        )
        baseline = DECAY * state.baseline + (1 - DECAY) * metrics["log_prob"]
        return HardState(*new, baseline), metrics

    def loss(self, params, batch, key):
        """Cross-entropy, less the reward of the draws and the bonus of their entropy."""
        model, states, aligned = self._teach(params, batch, key)
        loss, tokens = self._cross_entropy(model, states, batch, self.config.label_smoothing)
        valid = batch["target"] != PAD
        table = model.output_table.astype(states.dtype)
        reward = jnp.where(valid, log_probs(states, table, batch["target"]), 0.0)
        gain = jnp.where(valid, reward - batch["baseline"][:, None], 0.0)
        to_come = jnp.cumsum(gain[:, ::-1], axis=1)[:, ::-1]
        surrogate = score_function(aligned.log_prob, to_come, jnp.zeros(()))
        bonus = model.mechanism.entropy * aligned.entropy
        loss += jnp.sum(jnp.where(valid, surrogate - bonus, 0.0))
        entropy = jnp.sum(jnp.where(valid, aligned.entropy, 0.0))
        return loss, tokens, {"log_prob": reward.sum(), "entropy": entropy}

    def evaluate(self, state: Any, split: str) -> dict[str, float]:
        """The measures of `Translation`, and on test splits those of drawn attention."""
        measures = super().evaluate(state, split)
        if split in self.splits:
            drawn = self._measures(state, split, width=1, key=jax.random.key(self.config.seed))
            measures |= {f"{name}_drawn": value for name, value in drawn.items()}
        return measures
