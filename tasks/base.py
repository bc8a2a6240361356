"""What the loop asks of a task, and the part that all supervised tasks share."""

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple, Protocol, runtime_checkable

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx
from jaxtyping import Array, Float, PRNGKeyArray
from matplotlib.figure import Figure

from training.errors import UserError
from training.optimizer import Optimizer
from training.state import TrainState

Batch = Any  # a pytree of arrays that share their first dimension, the rows
Metrics = dict[str, Float[Array, ""]]


class Task(Protocol):
    """A model with its data, its update and its measure. The loop knows nothing else."""

    unit: str  # what metrics['items'] counts, in the plural: 'tokens'

    @property
    def splits(self) -> tuple[str, ...]:
        """What is evaluated after training: ('test',)."""
        ...

    def describe(self) -> dict[str, str]:
        """What a person should know of its data and measure, in a few words each."""
        ...

    def init(self, key: Array) -> Any:
        """The first state: a NamedTuple with a field `params`. Pure, so it runs under jit."""
        ...

    def train_step(self, state: Any, batch: Batch, key: Array) -> tuple[Any, Metrics]:
        """One update. Pure. The metrics hold at least 'loss' and 'items'."""
        ...

    def batches(self, split: str, start_step: int) -> Iterator[Batch]:
        """NumPy batches, without end for 'train'; the same from any start."""
        ...

    def evaluate(self, state: Any, split: str) -> dict[str, float]:
        """The paper's measures, unprefixed: {'bleu': 27.3}."""
        ...

    def figures(self, state: Any) -> dict[str, Figure]:
        """Pictures by file name without ending."""
        ...

    def samples(self, state: Any) -> str:
        """A few outputs that a person would rather read than a number."""
        ...


@runtime_checkable
class HasLargestBatch(Protocol):
    """A task that knows its largest batch before it has any data."""

    def largest_batch(self) -> Batch:
        """Shapes of the training batch that needs most memory."""
        ...


def largest_batch(task: Any) -> Batch:
    """Shapes of the training batch that needs most memory; of the first if the task cannot tell."""
    if isinstance(task, HasLargestBatch):
        return task.largest_batch()
    first = next(task.batches("train", 0))
    return jax.tree.map(lambda x: jax.ShapeDtypeStruct(np.shape(x), np.asarray(x).dtype), first)


@runtime_checkable
class Translator(Protocol):
    """A task that translates sentences of a user's as well."""

    def translate(self, state: Any, sentences: Sequence[str]) -> tuple[list[str], int]:
        """The translations in order, and how many sentences were cut, being too long.

        An empty sentence has an empty translation.
        """
        ...


class Solution(NamedTuple):
    """What a task says of an instance of a user's."""

    message: str  # one sentence, for the user
    text: str  # content of the solution file


@runtime_checkable
class InstanceSolver(Protocol):
    """A task that solves instances of a user's as well."""

    solution_suffix: str  # of the file that an answer goes to: '.tour'

    def solve_instance(self, state: Any, text: str) -> Solution:
        """The answer to the instance that a file holds."""
        ...


class Supervised:
    """A task that only writes `init_params` and `loss`.

    The loss of a batch is `loss_sum / weight`. Sums are asked for, not means, so that the batch may
    be cut into `accumulate` microbatches of any weights and still give the update of the whole.
    """

    unit = "examples"

    def __init__(self, optimizer: Optimizer, accumulate: int):
        self.optimizer = optimizer
        self.accumulate = accumulate

    def init_params(self, key: Array) -> nnx.State:
        """The parameters at the start."""
        raise NotImplementedError

    def loss(
        self, params: nnx.State, batch: Batch, key: Array
    ) -> tuple[Float[Array, ""], Float[Array, ""], Metrics]:
        """`(loss_sum, weight, sums)`: all summed over the batch, `sums` being further metrics."""
        raise NotImplementedError

    @property
    def splits(self) -> tuple[str, ...]:
        """None, unless a task has some."""
        return ()

    def describe(self) -> dict[str, str]:
        """Nothing, unless a task has something to say."""
        return {}

    def figures(self, state: TrainState) -> dict[str, Figure]:
        """None, unless a task has some."""
        return {}

    def samples(self, state: TrainState) -> str:
        """None, unless a task has some."""
        return ""

    def init(self, key: Array) -> Any:
        """Parameters and optimizer at step 0: a `TrainState`, or a task's own."""
        params = self.init_params(key)
        return TrainState(jnp.int32(0), params, self.optimizer.init(params))

    def train_step(self, state: TrainState, batch: Batch, key: Array) -> tuple[TrainState, Metrics]:
        """Gradient of the weighted mean, one optimizer update."""
        (loss_sum, weight, sums), grads = self._summed_gradients(state.params, batch, key)
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

    def _summed_gradients(self, params, batch, key):
        """Sums over the microbatches of `loss` and of the gradient of its first part."""

        def one(batch, key):
            def loss(params):
                loss_sum, weight, sums = self.loss(params, batch, key)
                return loss_sum, (loss_sum, weight, sums)

            grads, sums = jax.grad(loss, has_aux=True)(params)
            return sums, grads

        if self.accumulate == 1:
            return one(batch, key)
        micro = jax.tree.map(lambda x: microbatches(x, self.accumulate), batch)
        keys = jax.random.split(key, self.accumulate)
        shapes = jax.eval_shape(one, jax.tree.map(lambda x: x[0], micro), keys[0])
        zeros = jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), shapes)
        add = lambda total, x: (jax.tree.map(jnp.add, total, one(*x)), None)
        return jax.lax.scan(add, zeros, (micro, keys))[0]


def microbatches(x: Array, count: int) -> Array:
    """[B, ...] to [count, B / count, ...], taking every count-th row: no row leaves its device."""
    if x.shape[0] % count:
        raise UserError(
            f"A batch of {x.shape[0]} rows cannot be cut into train.accumulate={count} equal parts."
        )
    return x.reshape(x.shape[0] // count, count, *x.shape[1:]).swapaxes(0, 1)


def example_indices(rows: int) -> Iterator[Batch]:
    """Batches of a task that makes its data inside the step: only how many rows there are."""
    while True:
        yield {"index": np.arange(rows)}


def evaluation_key(split: str, number: int) -> PRNGKeyArray:
    """The key of a split whose data are drawn; no seed of training shares it.

    Args:
        split: its name.
        number: the task's own.
    """
    return jax.random.fold_in(jax.random.key(number), sum(split.encode()))
