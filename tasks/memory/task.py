"""The tasks of the Neural Turing Machine: a sequence in, an answer from memory out.

Graves et al. 2014, sec. 4. Sequences are made inside the step, from its key; what the host sends is
the numbers of the rows. All sequences of a batch have the same sizes, so a batch takes the steps
that it needs and no more.
"""

import functools
import math
from collections.abc import Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jaxtyping import Array, Float
from matplotlib.figure import Figure

from models.ntm import NTM, Plain, Trace
from tasks import plotting
from tasks.base import Supervised, evaluation_key, example_indices
from tasks.memory.sequences import FAMILIES, Episode, Family, draw
from training import mesh, optimizer
from training.errors import UserError, config_section, did_you_mean
from training.state import TrainState

LN2 = math.log(2.0)


def build(config: Any, workdir: str) -> "Memory":
    """Builds the task from a config.

    Raises:
        UserError: for a family, size or value of the model that there is not.
    """
    del workdir  # nothing is learned before training
    return Memory(config)


class Memory(Supervised):
    """See the module. `bits_per_sequence` is the paper's measure, the cross-entropy of an answer.

    Beside it: `wrong_bits` of a sequence, an answer's bits being rounded, and `perfect`, the share
    of sequences without any.
    """

    unit = "sequences"

    def __init__(self, config: Any):
        super().__init__(optimizer.build(**config.optimizer), config.train.accumulate)
        self.config = config
        kind = config.episodes.kind
        if kind not in FAMILIES:
            raise UserError(
                f"episodes.kind '{kind}' is not one of {', '.join(FAMILIES)}."
                + did_you_mean(kind, FAMILIES)
            )
        sizes = dict(config.episodes.sizes)
        make = functools.cache(FAMILIES[kind])  # one for all splits of the same sizes
        with config_section("episodes"):
            self.families: dict[str, Family] = {"train": make(**sizes), "dev": make(**sizes)}
            for split, changes in config.episodes.splits.items():
                self.families[split] = make(**(sizes | dict(changes)))
        self._measures = jax.jit(self._measure, static_argnames="family")
        with config_section("model"):
            self.graphdef = nnx.graphdef(nnx.eval_shape(lambda: self.create(jax.random.key(0))))

    def create(self, key: Array) -> NTM | Plain:
        """The model with its first weights: without heads, a plain LSTM."""
        family, sizes = self.families["train"], dict(self.config.model)
        channels: dict[str, Any] = {"inputs": family.inputs, "outputs": family.outputs}
        if sizes["heads"]:
            return NTM(**channels, **sizes, key=key)
        return Plain(**channels, hidden=sizes["hidden"], layers=sizes["layers"], key=key)

    @property
    def splits(self) -> tuple[str, ...]:
        return tuple(self.config.episodes.splits)

    def describe(self) -> dict[str, str]:
        """The family and the sizes of its sequences, and what will be seen of them."""
        train = self.families["train"]
        ranges = ", ".join(f"{name} {low}-{high}" for name, (low, high) in train.ranges.items())
        seen = self.config.train.steps * self.config.batch
        return {"data": f"{self.config.episodes.kind}, {ranges}; {seen:,} sequences in all"}

    # Training.

    def init_params(self, key: Array) -> nnx.State:
        return nnx.state(self.create(key))

    def loss(self, params, batch, key):
        """Cross-entropy in nats, summed over answers; beside it the same in bits."""
        key_data, key_model = jax.random.split(key)
        episode, steps = draw(self.families["train"], key_data, batch["index"])
        logits = nnx.merge(self.graphdef, params)(episode.inputs, steps, key_model)
        nats = jnp.sum(answer_cost(logits, episode))
        return nats, jnp.float32(len(batch["index"])), {"bits_per_sequence": nats / LN2}

    def batches(self, split: str, start_step: int) -> Iterator[dict[str, np.ndarray]]:
        """Numbers of rows: the sequences themselves come of the step's key."""
        del split, start_step
        return example_indices(self.config.batch)

    # Evaluation.

    def evaluate(self, state: TrainState, split: str) -> dict[str, float]:
        """Means over the same sequences at every call, those of a split."""
        rows, count = self.config.batch, self.config.episodes.evaluated
        sums: dict[str, float] = {}
        for n in range(math.ceil(count / rows)):
            key = jax.random.fold_in(evaluation_key(split, 2014), n)
            with mesh.split_rows(state.params) as by_rows:
                batch = by_rows({"index": np.arange(rows)})
                measures = self._measures(state.params, key, batch, family=self.families[split])
            for name, values in jax.device_get(measures).items():
                sums[name] = sums.get(name, 0.0) + float(values[: count - n * rows].sum())
        return {name: total / count for name, total in sums.items()}

    def _measure(self, params, key, batch, family):
        """Every measure of each of a batch of sequences."""
        key_data, key_model = jax.random.split(key)
        episode, steps = draw(family, key_data, batch["index"])
        logits = nnx.merge(self.graphdef, params)(episode.inputs, steps, key_model)
        wrong = ((logits > 0) != (episode.targets > 0.5)) & episode.scored[..., None]
        wrong = wrong.sum((0, 2))
        bits = jnp.sum(answer_cost(logits, episode), axis=0) / LN2
        measures = {"bits_per_sequence": bits, "wrong_bits": wrong, "perfect": wrong == 0}
        return measures | family.references(episode)

    # Pictures.

    def figures(self, state: TrainState) -> dict[str, Figure]:
        """A longest sequence of each kind; and what the heads did in one as in training."""
        key, model = jax.random.key(0), nnx.merge(self.graphdef, state.params)
        answer_of = jax.jit(model.trace if isinstance(model, NTM) else model)
        shown: dict[str, tuple[np.ndarray, ...]] = {}
        figures: dict[str, Figure] = {}
        names = {family: split for split, family in reversed(self.families.items())}
        in_order = lambda one: (one[1] != "train", one[0].longest)
        for family, split in sorted(names.items(), key=in_order):
            sizes = {name: jnp.int32(most) for name, most in family.most.items()}
            episode, steps = family.sequence(key, sizes), jnp.int32(family.longest)
            title = f"{split}: " + ", ".join(f"{name} {most}" for name, most in family.most.items())
            logits = answer_of(episode.inputs[:, None], steps, key)
            if isinstance(model, NTM):
                logits, trace = logits
                figures.setdefault("heads", _heads(trace, title))
            answer = jnp.where(episode.scored[:, None], jax.nn.sigmoid(logits[:, 0]), 0.0)
            shown[title] = tuple(map(np.asarray, (episode.inputs, episode.targets, answer)))
        return figures | {"answers": plotting.episodes(shown, ("input", "target", "output"))}


def answer_cost(logits: Float[Array, "T *B O"], episode: Episode) -> Float[Array, "T *B"]:
    """Cross-entropy of each step of each sequence, in nats; zero where no answer is asked for."""
    costs = jnp.logaddexp(0.0, logits) - episode.targets * logits
    return jnp.where(episode.scored, costs.sum(-1), 0.0)


def _heads(trace: Trace, title: str) -> Figure:
    """Of one sequence: what each head read or added, and where."""
    reads, adds, weights = (np.asarray(x)[:, 0] for x in (trace.reads, trace.adds, trace.weights))
    count = reads.shape[1]
    names = [f"{kind} {n + 1}" for kind in ("read", "added") for n in range(count)]
    vectors = np.concatenate([reads, adds], axis=1)
    return plotting.heads(
        {name: vectors[:, n] for n, name in enumerate(names)},
        {name: weights[:, n] for n, name in enumerate(names)},
        title,
    )
