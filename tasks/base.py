"""Interface between a task and the training loop, and the base class of supervised tasks."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple, Protocol, runtime_checkable

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx
from jaxtyping import Array, Float, PRNGKeyArray
from matplotlib.figure import Figure

from models.device_batch import can_sum_over_devices, sum_over_devices
from tasks import viewer
from tasks.attention_maps import AttentionMap
from training.errors import UserError
from training.optimizer import Optimizer
from training.state import TrainState

Batch = Any  # a pytree of arrays with the same leading dimension, the batch size
Metrics = dict[str, Float[Array, ""]]


class Task(Protocol):
    """Model with its data, training step and metrics: the interface that the loop uses."""

    unit: str  # unit of metrics['items'], in the plural: 'tokens'

    @property
    def splits(self) -> tuple[str, ...]:
        """Names of the splits that are evaluated after training, such as ('test',)."""
        ...

    def describe(self) -> dict[str, str]:
        """Summarize the data and the metric, as rows of the header that a run prints."""
        ...

    def init(self, key: Array) -> Any:
        """Return the initial state, a NamedTuple with a field `params`. Pure."""
        ...

    def train_step(self, state: Any, batch: Batch, key: Array) -> tuple[Any, Metrics]:
        """Update the state once. Pure. The metrics contain at least 'loss' and 'items'."""
        ...

    def batches(self, split: str, start_step: int) -> Iterator[Batch]:
        """Yield NumPy batches from a step on; infinite for 'train'.

        Batch n must not depend on `start_step`, so that a resumed run trains on the same data.
        """
        ...

    def evaluate(self, state: Any, split: str) -> dict[str, float]:
        """Compute the paper's metrics, named without the split: {'bleu': 27.3}."""
        ...

    def figures(self, state: Any) -> dict[str, Figure]:
        """Return figures by file name, without the extension."""
        ...

    def samples(self, state: Any) -> str:
        """Format a few model outputs for the console."""
        ...


class ShowsAttention:
    """Base class of tasks: the page of the attention maps that a subclass returns."""

    config: Any

    def attention_maps(self, state: Any, inputs: Any = None) -> list[AttentionMap]:
        """Return the attention maps of a few examples; by default none.

        Args:
            state: training state.
            inputs: the user's examples: sentences if the task is a `Translator`, the content of a
                file if it is an `InstanceSolver`, paths of images if it is an `ImageCaptioner`. By
                default the task chooses examples.
        """
        return []

    def attention_page(self, maps: Sequence[AttentionMap]) -> str:
        """Return the interactive page of attention maps; see `tasks.viewer.page`."""
        return viewer.page(maps, self.config.name)


@runtime_checkable
class HasLargestBatch(Protocol):
    """Task whose largest batch is known without its data."""

    def largest_batch(self) -> Batch:
        """Return the shapes of the training batch that needs the most memory."""
        ...


def largest_batch(task: Any) -> Batch:
    """Return the shapes of a task's largest training batch.

    If the task does not define `largest_batch`, the shapes are those of its first batch.
    """
    if isinstance(task, HasLargestBatch):
        return task.largest_batch()
    first = next(task.batches("train", 0))
    return jax.tree.map(lambda x: jax.ShapeDtypeStruct(np.shape(x), np.asarray(x).dtype), first)


@runtime_checkable
class Translator(Protocol):
    """Task that translates the user's sentences (`eval.py --translate`)."""

    def translate(self, state: Any, sentences: Sequence[str]) -> tuple[list[str], int]:
        """Translate sentences.

        Returns:
            The translations in order (an empty string for an empty sentence), and how many
            sentences were truncated to the model's maximum length.
        """
        ...


@runtime_checkable
class SupportsEnsemble(Protocol):
    """Task that evaluates several runs as one model (`eval.py --workdir=A --workdir=B`)."""

    def ensemble(self, state: Any, others: Sequence[tuple[Any, Any]]) -> tuple[Any, Any]:
        """Return a task and a state that evaluate several models as one.

        The models' probabilities are averaged, or the best of their solutions is taken.

        Args:
            state: state of this task.
            others: further tasks and their states.

        Raises:
            UserError: if the models cannot be combined.
        """
        ...


@runtime_checkable
class WordAligner(Protocol):
    """Task whose model aligns the words of sentence pairs (`eval.py --alignments`)."""

    def alignment_error_rate(
        self, state: Any, split: str, file: str, *, from_one: bool, reverse: bool
    ) -> float:
        """Compare the alignments of a split with hand alignments.

        Args:
            state: state of the model.
            split: name of the split.
            file: path of the hand alignments, one pair per line.
            from_one: whether the file counts words from 1.
            reverse: whether the file has the target word first.

        Raises:
            UserError: if the model has no alignments of words, or the file is faulty.
        """
        ...


@runtime_checkable
class ImageCaptioner(Protocol):
    """Task that captions the user's images (`eval.py --caption`)."""

    def caption_files(self, state: Any, paths: Sequence[Path]) -> tuple[list[str], Figure | None]:
        """Generate a caption for each image file, and a figure of the attention at each word.

        There is no figure if the model has no attention.

        Raises:
            UserError: if a file is not an image.
        """
        ...


class Solution(NamedTuple):
    """Solution of a problem instance."""

    message: str  # one sentence for the user
    text: str  # content of the solution file, written in UTF-8


@runtime_checkable
class InstanceSolver(Protocol):
    """Task that solves the user's problem instances (`eval.py --instance`)."""

    solution_suffix: str  # of the solution file: '.tour'

    def solve_instance(self, state: Any, content: bytes) -> Solution:
        """Solve the instance in the content of a file."""
        ...


class Supervised(ShowsAttention):
    """Base class of tasks that are trained on a loss.

    Subclasses define `init_params`, `loss`, `batches` and `evaluate`.

    `loss` returns the sum over a batch and the sum of the weights, not their quotient: with
    `accumulate` microbatches of unequal weights, the gradient equals the gradient of the whole
    batch.

    Args:
        optimizer: see `training.optimizer.build`.
        accumulate: number of microbatches per update.
    """

    unit = "examples"
    # Whether `loss` can be summed over parts of a batch: no example depends on others, and random
    # numbers are those of `models.device_batch`. On several CPU devices, this is faster.
    independent_examples = False

    def __init__(self, optimizer: Optimizer, accumulate: int):
        self.optimizer = optimizer
        self.accumulate = accumulate

    def init_params(self, key: Array) -> nnx.State:
        """Initialize the parameters."""
        raise NotImplementedError

    def loss(
        self, params: nnx.State, batch: Batch, key: Array
    ) -> tuple[Float[Array, ""], Float[Array, ""], Metrics]:
        """Return the loss, the weight and further metrics, all summed over the batch."""
        raise NotImplementedError

    def evaluate(self, state: Any, split: str) -> dict[str, float]:
        """Compute the paper's metrics; see `Task`."""
        raise NotImplementedError

    @property
    def splits(self) -> tuple[str, ...]:
        """Return no splits by default."""
        return ()

    def describe(self) -> dict[str, str]:
        """Return no rows by default."""
        return {}

    def figures(self, state: TrainState) -> dict[str, Figure]:
        """Return no figures by default."""
        return {}

    def samples(self, state: TrainState) -> str:
        """Return no samples by default."""
        return ""

    def init(self, key: Array) -> Any:
        """Return the state at step 0."""
        params = self.init_params(key)
        return TrainState(jnp.int32(0), params, self.optimizer.init(params))

    def train_step(self, state: TrainState, batch: Batch, key: Array) -> tuple[TrainState, Metrics]:
        """Update the parameters with the gradient of the weighted mean loss."""
        (loss_sum, weight, sums), grads = self._sum_gradients(state.params, batch, key)
        grads = jax.tree.map(lambda g: g / weight, grads)
        updates, opt_state = self.optimizer.update(grads, state.opt_state, state.params)
        metrics = {name: value / weight for name, value in sums.items()}
        metrics |= {
            "loss": loss_sum / weight,
            "items": weight,
            "grad_norm": optax.tree.norm(grads),
            "learning_rate": self.optimizer.learning_rate(state.step),
        }
        params = optax.apply_updates(state.params, updates)
        return TrainState(state.step + 1, params, opt_state), metrics

    def _sum_gradients(self, params, batch, key):
        """Sum the outputs of `loss` and the gradients of the loss over microbatches."""

        def loss_and_gradients(params, batch, key):
            def loss(params):
                loss_sum, weight, sums = self.loss(params, batch, key)
                return loss_sum, (loss_sum, weight, sums)

            grads, sums = jax.grad(loss, has_aux=True)(params)
            return sums, grads

        count = len(jax.tree.leaves(batch)[0]) // self.accumulate
        if self.independent_examples and can_sum_over_devices(count):
            loss_and_gradients = sum_over_devices(loss_and_gradients)
        if self.accumulate == 1:
            return loss_and_gradients(params, batch, key)
        micro = jax.tree.map(lambda x: microbatches(x, self.accumulate), batch)
        keys = jax.random.split(key, self.accumulate)
        first = jax.tree.map(lambda x: x[0], micro)
        shapes = jax.eval_shape(loss_and_gradients, params, first, keys[0])
        zeros = jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), shapes)
        add = lambda total, x: (jax.tree.map(jnp.add, total, loss_and_gradients(params, *x)), None)
        return jax.lax.scan(add, zeros, (micro, keys))[0]


def microbatches(x: Array, count: int) -> Array:
    """Reshape `[B, ...]` to `[count, B / count, ...]`.

    Microbatch i has the examples i, i + count, ..., so a sharded batch is not communicated.

    Raises:
        UserError: if the batch size is not a multiple of `count`.
    """
    if x.shape[0] % count:
        raise UserError(
            f"A batch of {x.shape[0]} examples cannot be split into train.accumulate={count} equal "
            "microbatches: make the batch size a multiple of it."
        )
    return x.reshape(x.shape[0] // count, count, *x.shape[1:]).swapaxes(0, 1)


def example_indices(batch_size: int) -> Iterator[Batch]:
    """Yield example indices as batches, for tasks whose training step generates the data."""
    while True:
        yield {"index": np.arange(batch_size)}


def evaluation_key(split: str, seed: int) -> PRNGKeyArray:
    """Return the PRNG key of an evaluation split whose data is generated.

    The key depends on the split and not on the seed of the run.

    Args:
        split: name of the split.
        seed: constant of the task.
    """
    return jax.random.fold_in(jax.random.key(seed), sum(split.encode()))
