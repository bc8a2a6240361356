"""Training and evaluation on the algorithmic tasks of the Neural Turing Machine.

Graves et al. 2014, sec. 4. Sequences are generated inside the training step from its PRNG key; the
host only sends example indices. All sequences of a batch have the same length, so the model runs
exactly as many steps as the batch needs.
"""

import functools
import inspect
import math
from collections.abc import Iterator
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jaxtyping import Array, Float
from matplotlib.figure import Figure

from models.ntm import NTM, LSTMBaseline, MemoryAccess
from tasks import plotting
from tasks.attention_maps import AttentionMap, MemoryRows, TimeSteps
from tasks.base import Supervised, evaluation_key, example_indices
from tasks.memory.sequences import SEQUENCE_TASKS, SequenceBatch, SequenceTask, sample_batch
from training import mesh, optimizer
from training.errors import UserError, config_section, did_you_mean
from training.state import TrainState

LN2 = math.log(2.0)
# Number of sequences per evaluation batch; all have the same sizes. Independent of `config.batch`,
# so that all runs are evaluated on the same sequences.
EVALUATION_BATCH = 16


def build(config: Any, workdir: str) -> "MemoryTask":
    """Build the task from a config.

    Raises:
        UserError: if the sequence task, a size or a value of the model config is invalid.
    """
    del workdir  # unused: nothing is prepared before training
    return MemoryTask(config)


class Example(NamedTuple):
    """Sequence of a split with the outputs of the model.

    Attributes:
        split: name of the split.
        title: split and sizes of the sequence.
        inputs: `[T, I]`.
        targets: `[T, O]`.
        outputs: `[T, O]`, probabilities of ones; zero at steps without a target.
        memory_access: of an NTM, for a batch of one sequence.
    """

    split: str
    title: str
    inputs: np.ndarray
    targets: np.ndarray
    outputs: np.ndarray
    memory_access: MemoryAccess | None


class MemoryTask(Supervised):
    """Sequence-to-sequence learning of one algorithmic task.

    Metrics, averaged over sequences: `bits_per_sequence`, the cross-entropy of the targets, which
    is the cost that the paper reports; `bit_errors`, the number of wrong output bits after
    rounding, including those of delimiter channels; `exact_match`, the fraction of sequences
    without a bit error; and for dynamic n-grams `optimal_bits`, the cost of the optimal estimator,
    and `excess_bits`, the difference of both.
    """

    unit, independent_examples = "sequences", True

    def __init__(self, config: Any):
        super().__init__(optimizer.build(**config.optimizer), config.train.accumulate)
        self.config = config
        name = config.data.task
        if name not in SEQUENCE_TASKS:
            raise UserError(
                f"data.task '{name}' is not one of {', '.join(SEQUENCE_TASKS)}."
                + did_you_mean(name, SEQUENCE_TASKS)
            )
        sizes = dict(config.data.sizes)
        create = functools.cache(SEQUENCE_TASKS[name])  # equal splits share a compiled program
        with config_section("data"):
            self.tasks: dict[str, SequenceTask] = {"train": create(**sizes), "dev": create(**sizes)}
        for split, changes in config.evaluation.splits.items():
            if split in self.tasks:
                raise UserError(f"evaluation.splits cannot have a split named {split!r}.")
            with config_section(f"evaluation.splits.{split}"):
                self.tasks[split] = create(**(sizes | dict(changes)))
        self._jit_metrics = jax.jit(self._metrics, static_argnames="task")
        with config_section("model"):
            self.graphdef = nnx.graphdef(nnx.eval_shape(lambda: self.create(jax.random.key(0))))

    def create(self, key: Array) -> NTM | LSTMBaseline:
        """Create the model with initial weights; without heads it is the LSTM baseline."""
        task, sizes = self.tasks["train"], dict(self.config.model)
        channels: dict[str, Any] = {"inputs": task.inputs, "outputs": task.outputs}
        if sizes["heads"]:
            return NTM(**channels, **sizes, key=key)
        # Unknown keys are errors.
        inspect.signature(NTM.__init__).bind(self, **channels, **sizes, key=key)
        if sizes["controller"] != "lstm":
            raise ValueError("a model without heads needs the controller 'lstm'")
        sizes = {name: sizes[name] for name in ("hidden", "layers", "backward_clip")}
        return LSTMBaseline(**channels, **sizes, key=key)

    @property
    def splits(self) -> tuple[str, ...]:
        return tuple(self.config.evaluation.splits)

    def describe(self) -> dict[str, str]:
        """Summarize the sequence task, its sizes and the number of training sequences."""
        ranges = self.tasks["train"].ranges.items()
        sizes = ", ".join(f"{name} {low}-{high}" for name, (low, high) in ranges)
        total = self.config.train.steps * self.config.batch
        return {"data": f"{self.config.data.task}, {sizes}; {total:,} training sequences"}

    # Training.

    def init_params(self, key: Array) -> nnx.State:
        return nnx.state(self.create(key))

    def loss(self, params, batch, key):
        """Return the cross-entropy in nats, summed over the batch, and in bits as a metric."""
        data_key, model_key = jax.random.split(key)
        sequences, steps = sample_batch(self.tasks["train"], data_key, batch["index"])
        logits = nnx.merge(self.graphdef, params)(sequences.inputs, steps, model_key)
        nats = jnp.sum(cross_entropy(logits, sequences))
        return nats, jnp.float32(len(batch["index"])), {"bits_per_sequence": nats / LN2}

    def batches(self, split: str, start_step: int) -> Iterator[dict[str, np.ndarray]]:
        """Yield example indices; the sequences are generated inside the training step."""
        del split, start_step
        return example_indices(self.config.batch)

    # Evaluation.

    def has_metric(self, name: str) -> bool:
        """Return whether the dev split has a metric."""
        names = {"bits_per_sequence", "bit_errors", "exact_match"}
        if self.config.data.task == "ngrams":
            names |= {"optimal_bits", "excess_bits"}
        return name in names

    def evaluate(self, state: TrainState, split: str) -> dict[str, float]:
        """Compute the mean metrics of a split, whose sequences are the same at every call."""
        count = self.config.evaluation.sequences
        sums: dict[str, float] = {}
        for n in range(math.ceil(count / EVALUATION_BATCH)):
            key = jax.random.fold_in(evaluation_key(split, 2014), n)
            with mesh.evaluation_mesh(state.params) as shard:
                batch = shard({"index": np.arange(EVALUATION_BATCH)})
                metrics = self._jit_metrics(state.params, key, batch, task=self.tasks[split])
            for name, values in jax.device_get(metrics).items():
                valid = values[: count - n * EVALUATION_BATCH]
                sums[name] = sums.get(name, 0.0) + float(valid.sum())
        return {name: total / count for name, total in sums.items()}

    def _metrics(self, params, key, batch, task):
        """Metrics of each sequence of a batch."""
        data_key, model_key = jax.random.split(key)
        sequences, steps = sample_batch(task, data_key, batch["index"])
        logits = nnx.merge(self.graphdef, params)(sequences.inputs, steps, model_key)
        wrong = (logits > 0) != (sequences.targets > 0.5)
        bit_errors = (wrong & sequences.loss_mask[..., None]).sum((0, 2))
        bits = jnp.sum(cross_entropy(logits, sequences), axis=0) / LN2
        metrics = {
            "bits_per_sequence": bits,
            "bit_errors": bit_errors,
            "exact_match": bit_errors == 0,
        }
        references = task.reference_metrics(sequences)
        if "optimal_bits" in references:
            metrics["excess_bits"] = bits - references["optimal_bits"]
        return metrics | references

    # Figures.

    def figures(self, state: TrainState) -> dict[str, Figure]:
        """Plot the longest sequence of each distinct split, and the memory access of an NTM."""
        examples = self.examples(state)
        panels = {x.title: (x.inputs, x.targets, x.outputs) for x in examples}
        figures = {"sequences": plotting.sequences(panels, ("input", "target", "output"))}
        if examples[0].memory_access is not None:
            figures["memory_access"] = plot_memory_access(examples[0])
        return figures

    def attention_maps(self, state: TrainState, inputs: Any = None) -> list[AttentionMap]:
        """Return the weightings of all heads of an NTM for the longest sequence of each split."""
        del inputs
        examples = [x for x in self.examples(state) if x.memory_access is not None]
        return [weighting_map(example) for example in examples]

    def examples(self, state: TrainState) -> list["Example"]:
        """Predict the longest sequence of each distinct split, of the training split first."""
        key, examples = jax.random.key(0), []
        # Splits of the same sizes share a task, which is named after the first of them.
        names = {task: split for split, task in reversed(self.tasks.items())}
        order = lambda item: (item[1] != "train", item[0].max_steps)
        for task, split in sorted(names.items(), key=order):
            sizes = {name: jnp.int32(size) for name, size in task.max_sizes.items()}
            sequence, steps = task.sequence(key, sizes), jnp.int32(task.max_steps)
            title = f"{split}: " + ", ".join(f"{n} {size}" for n, size in task.max_sizes.items())
            logits, access = self._predict(state.params, sequence.inputs[:, None], steps, key)
            outputs = jnp.where(sequence.loss_mask[:, None], jax.nn.sigmoid(logits[:, 0]), 0.0)
            arrays = jax.device_get((sequence.inputs, sequence.targets, outputs, access))
            examples.append(Example(split, title, *arrays))
        return examples

    @functools.partial(jax.jit, static_argnames="self")
    def _predict(self, params, inputs, steps, key):
        """Return the logits, and the memory access of an NTM or `None`."""
        model = nnx.merge(self.graphdef, params)
        if isinstance(model, NTM):
            return model.with_memory_access(inputs, steps, key)
        return model(inputs, steps, key), None


def cross_entropy(logits: Float[Array, "T *B O"], sequences: SequenceBatch) -> Float[Array, "T *B"]:
    """Cross-entropy of each step in nats, summed over output channels; zero where masked."""
    nats = jnp.logaddexp(0.0, logits) - sequences.targets * logits
    return jnp.where(sequences.loss_mask, nats.sum(-1), 0.0)


def weighting_map(example: Example) -> AttentionMap:
    """Return the weightings of all heads of an NTM over its memory rows at every step."""
    assert example.memory_access is not None
    weightings = np.asarray(example.memory_access.weightings)
    weights = weightings[:, 0].swapaxes(0, 1)[None]  # [1, 2 * heads, T, N]
    heads = weights.shape[1] // 2
    # Priorities and numbers of repeats may lie outside [0, 1].
    low, high = np.minimum(example.inputs.min(0), 0.0), np.maximum(example.inputs.max(0), 1.0)
    numbers = [f" {n + 1}" if heads > 1 else "" for n in range(heads)]
    return AttentionMap(
        example.title,
        "addressing",
        weights,
        TimeSteps("time steps", (example.inputs - low) / (high - low), example.outputs),
        MemoryRows("memory rows", weights.shape[-1]),
        [f"{kind}{n}" for kind in ("read", "write") for n in numbers],
    )


def plot_memory_access(example: Example) -> Figure:
    """Plot outputs, read vectors and read weightings, and inputs, add vectors and write weightings.

    The layout is the one of Graves et al. 2014, fig. 6, with a column per head.
    """
    assert example.memory_access is not None, example.title
    weightings, read_vectors, add_vectors = (np.asarray(x)[:, 0] for x in example.memory_access)
    heads = read_vectors.shape[1]
    names = [f"{kind} {n + 1}" for kind in ("read", "add") for n in range(heads)]
    vectors = np.concatenate([read_vectors, add_vectors], axis=1)
    return plotting.memory_access(
        {name: example.outputs if n < heads else example.inputs for n, name in enumerate(names)},
        {name: vectors[:, n] for n, name in enumerate(names)},
        {name: weightings[:, n] for n, name in enumerate(names)},
        example.title,
    )
