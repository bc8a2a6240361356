"""What all questions about points have in common: the model, its loss, its answers.

A task of this kind says what its problem is, who solves it, and how to measure an answer. Points
and answers to learn from are made inside the step where the device can answer, or else come from
the host.
"""

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jaxtyping import Array, Bool, Float, Int
from matplotlib.figure import Figure

from attention.pointer import chosen_before
from models.pointer_network.network import PointerNet
from tasks import plotting
from tasks.base import Supervised, evaluation_key, example_indices
from tasks.pointing.instances import Points, Problem, draw
from tasks.pointing.label_store import Labels
from tasks.pointing.solvers import SOLVERS, Choices
from training import mesh, optimizer
from training.errors import UserError, config_section, did_you_mean
from training.run import make_writable_dir

SHOWN = 5  # answers in a picture


class OnDevice(NamedTuple):
    """Who answers inside the step.

    Attributes:
        answer: from points `[B, N, 2]`, and how many of the N there are, to choices `[B, T]`.
        most: points that it takes.
    """

    answer: Callable[[Float[Array, "B N 2"], Int[Array, ""]], Int[Array, "B T"]]
    most: int


class Pointing(Supervised):
    """A pointer network that learns from answers.

    Args:
        config: the whole run's.
        workdir: the run's folder.
        problem: what is asked.
    """

    unit = "instances"
    on_device: Mapping[str, OnDevice]  # who labels there, by name
    on_host: str  # who labels here, a name of `SOLVERS`

    def __init__(self, config: Any, workdir: str, problem: type[Problem]):
        super().__init__(optimizer.build(**config.optimizer), config.train.accumulate)
        self.config, self.of_sizes = config, problem
        with config_section("data"):
            self.problem = problem(config.data.sizes)
        self.tests = {n: problem((n, n)) for n in config.evaluation.sizes}
        with config_section("model"):
            self.graphdef = nnx.graphdef(nnx.eval_shape(lambda: self.create(jax.random.key(0))))
        self.labels = self.make_labels(workdir)
        self._solved: dict[tuple[str, int], Choices] = {}
        self._answers = jax.jit(self._answer, static_argnames=("n", "free"))

    def make_labels(self, workdir: str) -> Labels | None:
        """What the config's `data.labels` asks for: nothing, where the device labels.

        Of the solver on the host (`by`) it asks for so many `instances`, kept in a `folder`: if
        that is empty, in the run's own.
        """
        options, high = dict(self.config.data.labels), self.problem.high
        by, known = options.pop("by"), (*self.on_device, self.on_host)
        if by not in known:
            names = "' or '".join(known)
            raise UserError(
                f"data.labels.by is '{names}' here, not '{by}'." + did_you_mean(by, known)
            )
        if by in self.on_device:
            if options:
                raise UserError(f"data.labels by '{by}' has nothing else to set.")
            if high > (most := self.on_device[by].most):
                raise UserError(
                    f"data.labels.by '{by}' is for up to {most} points, not {high}: take "
                    f"'{self.on_host}'."
                )
            return None
        if options.keys() != {"instances", "folder"}:
            raise UserError(f"data.labels by '{by}' has to give 'instances' and 'folder'.")
        folder = options["folder"] or os.path.join(workdir, "labels")
        sizes = (self.problem.low, high)
        return Labels(SOLVERS[by], by, sizes, options["instances"], self.config.batch, folder)

    def create(self, key: Array) -> PointerNet:
        """The model with its first weights."""
        sizes = dict(self.config.model)
        return PointerNet(encoder=dict(sizes.pop("encoder")), **sizes, key=key)

    @property
    def splits(self) -> tuple[str, ...]:
        return ("test",)

    def describe(self) -> dict[str, str]:
        """What is asked, and how much of it will be seen."""
        low, high = self.config.data.sizes
        seen = self.config.train.steps * self.config.batch
        return {"data": f"{low} to {high} points; {seen:,} instances in all"}

    # Training.

    def init_params(self, key: Array) -> nnx.State:
        return nnx.state(self.create(key))

    def loss(self, params, batch, key):
        """Cross-entropy in nats of whole answers."""
        example = self.example(batch, key)
        choices = example.choices[:, None]
        log_probs, asked = self.log_probs(params, example.points, example.n, choices)
        nats = -jnp.sum(answer_log_prob(log_probs, choices, asked))
        right = jnp.all((jnp.argmax(log_probs, -1) == choices) | ~asked, axis=-1)
        return nats, jnp.float32(len(choices)), {"right": jnp.sum(right, dtype=jnp.float32)}

    def log_probs(
        self,
        params: nnx.State,
        points: Float[Array, "B N 2"],
        count: Int[Array, ""],
        choices: Int[Array, "B W T"],
    ) -> tuple[Float[Array, "B W T S"], Bool[Array, "B W T"]]:
        """Of every choice at every step of given answers, and which steps are the answers' own."""
        size, length = points.shape[1], choices.shape[-1]
        asked = self.problem.asked(choices, size)
        steps = self.problem.steps(count)
        if self.problem.ends:
            steps = jnp.max(jnp.sum(asked, axis=-1))  # of the longest answer
        chosen = jnp.pad(chosen_before(choices, size), ((0, 0), (0, 0), (0, 0), (0, 1)))
        may = self.problem.allowed if self.config.masked else self.problem.present
        mask = may(chosen, jnp.arange(length)[:, None], count)
        model = nnx.merge(self.graphdef, params)
        return model(points, count, choices, steps, mask), asked

    def example(self, batch: Any, key: Array) -> Points:
        """Points and right answers, made on the spot or as the host gave them."""
        if self.labels is None:
            asked = self.draw(batch, key)
            return Points(*asked, self.on_device[self.config.data.labels.by].answer(*asked))
        low, high = self.config.data.sizes
        count = jnp.int32(high) if low == high else batch["count"][0]
        return Points(batch["points"], count, batch["choices"])

    def draw(self, batch: Any, key: Array) -> tuple[Float[Array, "B N 2"], Int[Array, ""]]:
        """Points for the rows of a batch, and how many there are."""
        low, high = self.config.data.sizes
        return draw(key, batch["index"], low, high, high)

    def batches(self, split: str, start_step: int) -> Iterator[dict[str, np.ndarray]]:
        """Labelled points; or numbers of rows, where points come of the step's key."""
        del split
        if self.labels is None:
            return example_indices(self.config.batch)
        make_writable_dir(self.labels.folder)
        return self.labels.batches(self.problem.steps, start_step)

    # Evaluation.

    def answer(
        self, state: Any, points: Float[np.ndarray, "B N 2"], free: bool = False
    ) -> Int[np.ndarray, "B T"]:
        """The choices of each row: greedy, or those that the beam finds best.

        Args:
            state: of training.
            points: all rows full.
            free: without the constraints that make an answer valid.
        """
        rows, n = self.config.evaluation.rows, points.shape[1]
        found = []
        for start in range(0, len(points), rows):
            part = points[start : start + rows]
            padded = np.pad(part, ((0, rows - len(part)), (0, 0), (0, 0)))
            with mesh.split_rows(state.params) as split:
                answers = self._answers(state.params, split(padded), n=n, free=free)
            found.append(jax.device_get(answers)[: len(part)])
        return np.concatenate(found)

    def _answer(self, params, points, n, free):
        problem, model = self.of_sizes((n, n)), nnx.merge(self.graphdef, params)
        count, steps = jnp.int32(n), jnp.int32(problem.length)
        may = problem.present if free else problem.allowed
        allowed = lambda chosen, position: may(chosen, position, count)
        width = self.config.decode.width
        if width == 1 or free:
            return model.decode(points, count, steps, problem.length, allowed, problem.ends)[:, 0]
        return model.search(points, count, steps, problem.length, allowed, width)[0][:, 0]

    def points_of(self, split: str, n: int) -> Float[np.ndarray, "B N 2"]:
        """The points of a split, the same at every call and for every seed of training."""
        key = evaluation_key(split, 2015)
        count = self.config.evaluation["instances" if split == "test" else "dev_instances"]
        return np.asarray(jax.random.uniform(jax.random.fold_in(key, n), (count, n, 2)))

    def solved(self, split: str, n: int) -> Choices:
        """The right answers to a split, worked out once."""
        if (split, n) not in self._solved:
            self._solved[split, n] = self.solve(self.points_of(split, n))
        return self._solved[split, n]

    def evaluate(self, state: Any, split: str) -> dict[str, float]:
        """The measures of each size, `name_n5` and so on."""
        return {
            f"{name}_n{n}": float(value)
            for n in self.tests
            for name, value in self.measure(state, split, n).items()
        }

    def measure(self, state: Any, split: str, n: int) -> Mapping[str, Any]:
        """Every measure of a split's instances of `n` points."""
        raise NotImplementedError

    # Pictures.

    def figures(self, state: Any) -> dict[str, Figure]:
        """Answers beside right ones, and where the network points at each step of one."""
        rows, n = [], max(self.tests)
        points = self.points_of("test", n)[:SHOWN]
        answers = [choices[choices < n] for choices in self.answer(state, points)]
        right = self.solved("test", n)[:SHOWN]
        for title, shown in (("ours", answers), ("right", right)):
            pairs = zip(points, shown, strict=True)
            rows.append([plotting.Plane(title, p, self.paths(c)) for p, c in pairs])
        return {"answers": plotting.planes(rows), "pointing": self._pointing(state, n)}

    def samples(self, state: Any) -> str:
        """A few answers beside right ones."""
        n = max(self.tests)
        answers = self.answer(state, self.points_of("test", n)[:3])
        lines = [f"answers about {n} points, and right ones:"]
        for ours, theirs in zip(answers, self.solved("test", n)[:3], strict=True):
            lines.append(" ".join(map(str, ours[ours < n])))
            lines.append("  " + " ".join(map(str, theirs)))
        return "\n".join(lines)

    def _pointing(self, state, n):
        points = self.points_of("test", n)[:1]
        problem = self.of_sizes((n, n))
        [answer] = self.answer(state, points)
        shown = answer[: np.argmax(np.append(answer, n) == n) + self.problem.ends]

        def weights(params, points, choices):
            count = jnp.int32(n)
            chosen = jnp.pad(chosen_before(choices, n), ((0, 0), (0, 0), (0, 1)))
            mask = problem.allowed(chosen, jnp.arange(choices.shape[1])[:, None], count)
            model = nnx.merge(self.graphdef, params)
            one = choices[:, None], jnp.int32(problem.length), mask[:, None]
            return jnp.exp(model(points, count, *one))[:, 0]

        found = np.asarray(jax.jit(weights)(state.params, points, answer[None]))[0, : len(shown)]
        names = [*map(str, range(n)), "end"]
        return plotting.attention_heads(
            [found[None, :, : n + problem.ends]],
            names[: n + problem.ends],
            [f"{step + 1}: {names[choice]}" for step, choice in enumerate(shown)],
            "which point is chosen at each step",
        )

    def solve(self, points: Float[np.ndarray, "B N 2"]) -> Choices:
        """The right answers, by whatever it takes."""
        return SOLVERS[self.on_host](points)

    def paths(self, choices: Int[np.ndarray, " _"]) -> Sequence[Int[np.ndarray, " _"]]:
        """The closed lines that an answer is."""
        return [choices]


def answer_log_prob(
    log_probs: Float[Array, "*B T S"], choices: Int[Array, "*B T"], asked: Bool[Array, "*B T"]
) -> Float[Array, "*B"]:
    """Log-probability of each answer.

    Args:
        log_probs: of every choice at every step.
        choices: those of the answer.
        asked: the steps that are its own.
    """
    chosen = asked[..., None] & (choices[..., None] == jnp.arange(log_probs.shape[-1]))
    return jnp.sum(jnp.where(chosen, log_probs, 0.0), axis=(-2, -1))
