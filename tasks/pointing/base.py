"""Base class of the pointer network tasks: labels, loss, decoding and figures.

A subclass defines its problem, its solvers and its metrics. Training instances are generated and
labeled inside the training step if a solver runs on the device, and otherwise on the host.
"""

import dataclasses
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jaxtyping import Array, Float, Int
from matplotlib.figure import Figure

from attention.pointer import chosen_before
from models.layers import FACTORS, weight_names
from models.pointer_network.attention_model import AttentionModel
from models.pointer_network.decoding import ChoiceModel
from models.pointer_network.network import PointerNet
from models.pointer_network.seq2seq import Seq2Seq
from tasks import plotting
from tasks.attention_maps import AttentionMap, Choices, Points
from tasks.base import Supervised, evaluation_key, example_indices
from tasks.pointing import policy
from tasks.pointing.instances import Instances, Problem, sample_points
from tasks.pointing.label_store import LabelStore
from tasks.pointing.search import check_search
from tasks.pointing.solvers import SOLVERS, Solutions
from training import mesh, optimizer
from training.errors import UserError, config_section, did_you_mean
from training.run import make_writable_dir

FIGURE_EXAMPLES = 5
SAMPLE_EXAMPLES = 3
MODELS = ("pointer", "attention_model", "seq2seq")  # values of `model.kind`


class DeviceSolver(NamedTuple):
    """Solver that runs inside the jitted training step.

    Attributes:
        solve: maps points `[B, N, 2]` and their number to padded choices `[B, T]`.
        max_points: maximum number of points.
    """

    solve: Callable[[Float[Array, "B N 2"], Int[Array, ""]], Int[Array, "B T"]]
    max_points: int


class PointerTask(Supervised):
    """Supervised training of a pointer network on solved instances.

    Args:
        config: config of the run.
        workdir: run directory.
    """

    unit, independent_examples = "instances", True
    problem_type: type[Problem]
    metric_names: tuple[str, ...]  # of `metrics_for_size`
    polygon = 0  # number of choices that form a polygon, or 0 if all form one path
    device_solvers: Mapping[str, DeviceSolver]  # by name
    host_solvers: tuple[str, ...]  # names in `SOLVERS`; the first solves the test instances
    searches: tuple[str, ...] = ("beam",)  # names in `tasks.pointing.search.SEARCHES`

    def __init__(self, config: Any, workdir: str):
        super().__init__(optimizer.build(**config.optimizer), config.train.accumulate)
        self.config = config
        self.search = dict(config.search)
        check_search(self.search, self.searches)
        with config_section("data"):
            self.problem = self.problem_type(config.data.sizes)
        self.eval_problems = {n: self.problem_type((n, n)) for n in config.evaluation.sizes}
        sizes = {*config.data.sizes, *config.evaluation.sizes}
        if config.model.kind == "seq2seq" and len(sizes) > 1:
            raise UserError(
                "model.kind='seq2seq' has one output per index, so that it supports one number of "
                "points only: set data.sizes=(N, N) and evaluation.sizes=(N,)."
            )
        with config_section("model"):
            self.graphdef = nnx.graphdef(nnx.eval_shape(lambda: self.create(jax.random.key(0))))
        self.label_store = self.make_label_store(workdir)
        self._references: dict[tuple[str, int], Solutions] = {}
        self.decode = jax.jit(self._decode, static_argnames="constrained")

    def make_label_store(self, workdir: str) -> LabelStore | None:
        """Return the label store that `data.labels` configures, or `None` for a device solver.

        For a host solver, the section has the number of `instances` and the directory `dir`; an
        empty `dir` is a subdirectory of the run.
        """
        options, high = dict(self.config.data.labels), self.problem.high
        solver, known = options.pop("solver", ""), (*self.device_solvers, *self.host_solvers)
        if solver not in known:
            names = "' or '".join(known)
            raise UserError(
                f"data.labels.solver must be '{names}', not '{solver}'."
                + did_you_mean(solver, known)
            )
        if solver in self.device_solvers:
            if options:
                raise UserError(
                    f"data.labels.solver='{solver}' has no options: remove {', '.join(options)}."
                )
            if high > (max_points := self.device_solvers[solver].max_points):
                raise UserError(
                    f"data.labels.solver='{solver}' supports up to {max_points} points, not "
                    f"{high}: use '{self.host_solvers[0]}'."
                )
            return None
        if options.keys() != {"instances", "dir"}:
            raise UserError(f"data.labels.solver='{solver}' requires the keys 'instances', 'dir'.")
        if not isinstance(options["instances"], int) or not isinstance(options["dir"], str):
            raise UserError("data.labels.instances must be an integer, and data.labels.dir text.")
        return LabelStore(
            SOLVERS[solver],
            solver,
            (self.problem.low, high),
            options["instances"],
            self.config.batch,
            options["dir"] or os.path.join(workdir, "labels"),
        )

    def create(self, key: Array) -> ChoiceModel:
        """Create the model."""
        options = dict(self.config.model)
        options.pop("init_limit")  # see `reinitialize`
        kind = options.pop("kind")
        if kind not in MODELS:
            raise ValueError(f"kind must be one of {', '.join(MODELS)}, not {kind!r}")
        if kind == "seq2seq":
            return Seq2Seq(points=self.problem.high, **options, key=key)
        if kind == "attention_model":
            return AttentionModel(**options, key=key)
        return PointerNet(encoder=dict(options.pop("encoder")), **options, key=key)

    def model(self, params: nnx.State) -> ChoiceModel:
        """Return the model with these parameters."""
        return nnx.merge(self.graphdef, params)

    @property
    def splits(self) -> tuple[str, ...]:
        return ("test",)

    def describe(self) -> dict[str, str]:
        """Summarize the problem sizes and the number of training instances."""
        low, high = self.config.data.sizes
        total = self.config.train.steps * self.config.batch
        return {"data": f"{low} to {high} points, {total:,} training instances"}

    # Training.

    def init_params(self, key: Array) -> nnx.State:
        return self.reinitialize(nnx.state(self.create(key)), key)

    def reinitialize(self, params: nnx.State, key: Array) -> nnx.State:
        """Sample the parameters from U(-a, a) if `model.init_limit` a is positive.

        The gains of layer norms and the key strength of the content score keep their values.
        """
        limit = self.config.model.init_limit
        if not limit:
            return params

        def sample(path, x, key):
            if FACTORS & {*weight_names(path)}:
                return x
            return jax.random.uniform(key, x.shape, x.dtype, -limit, limit)

        leaves, tree = jax.tree.flatten(params)
        keys = jax.tree.unflatten(tree, list(jax.random.split(key, len(leaves))))
        return jax.tree.map_with_path(sample, params, keys)

    def loss(self, params, batch, key):
        """Compute the cross-entropy in nats, summed over the choices of each solution.

        The metric `exact_match` is the fraction of solutions in which every choice has the highest
        probability, given the previous choices of the reference.
        """
        instances = self.labeled_instances(batch, key)
        choices = instances.choices[:, None]
        log_probs, mask = policy.log_probs(
            self.model(params),
            self.problem,
            instances.points,
            instances.num_points,
            choices,
            self.config.mask_invalid,
        )
        nats = -jnp.sum(policy.sequence_log_prob(log_probs, choices, mask))
        exact = jnp.all((jnp.argmax(log_probs, -1) == choices) | ~mask, axis=-1)
        sums = {"exact_match": jnp.sum(exact, dtype=jnp.float32)}
        return nats, jnp.float32(len(choices)), sums

    def labeled_instances(self, batch: Any, key: Array) -> Instances:
        """Return the instances of a batch: generated and labeled here, or read from the store."""
        if self.label_store is None:
            points, count = self.sample_points(batch, key)
            solver = self.device_solvers[self.config.data.labels.solver]
            return Instances(points, count, solver.solve(points, count))
        low, high = self.config.data.sizes
        count = jnp.int32(high) if low == high else batch["count"][0]
        return Instances(batch["points"], count, batch["choices"])

    def sample_points(self, batch: Any, key: Array) -> tuple[Float[Array, "B N 2"], Int[Array, ""]]:
        """Sample the points of a batch, and their number."""
        low, high = self.config.data.sizes
        return sample_points(key, batch["index"], low, high, high)

    def batches(self, split: str, start_step: int) -> Iterator[dict[str, np.ndarray]]:
        """Yield labeled instances, or example indices if instances are generated in the step."""
        del split
        if self.label_store is None:
            return example_indices(self.config.batch)
        make_writable_dir(self.label_store.directory)
        return self.label_store.batches(self.problem.max_steps, start_step)

    # Evaluation.

    def predict(
        self, state: Any, points: Float[np.ndarray, "B N 2"], constrained: bool = True
    ) -> Int[np.ndarray, "B T"]:
        """Search for solutions as configured, in batches that bound the memory.

        A batch has `evaluation.batch` instances: fewer if the search samples several sequences per
        instance, or if there are more points than in training. The width of a beam does not count.

        Args:
            state: training state.
            points: `[B, N, 2]` without padding.
            constrained: mask choices that make a solution invalid; if false, decoding is greedy.
        """
        per_instance = max(1, points.shape[1] / self.problem.high)
        if constrained:
            per_instance *= self.search.get("batch", 1)
        batch, choices = max(1, int(self.config.evaluation.batch / per_instance)), []
        for start in range(0, len(points), batch):
            part = points[start : start + batch]
            padded = np.pad(part, ((0, batch - len(part)), (0, 0), (0, 0)))
            with mesh.evaluation_mesh(state.params) as shard:
                decoded = self.decode(
                    state.params, shard(padded), np.int32(start), constrained=constrained
                )
            choices.append(jax.device_get(decoded)[: len(part)])
        return np.concatenate(choices)

    def _decode(self, params, points, start, constrained):
        """Decode a batch; `start` is the index of its first instance, for random searches."""
        del start
        problem = self.problem_type((points.shape[1], points.shape[1]))
        model = self.model(params)
        count, steps = jnp.int32(points.shape[1]), jnp.int32(problem.length)
        mask = problem.valid_mask if constrained else problem.padding_mask
        mask_fn = lambda chosen, position: mask(chosen, position, count)
        args = points, count, steps, problem.length, mask_fn
        width = self.search.get("width", 1)
        if width == 1 or not constrained:
            return model.decode(*args, problem.has_end_token)[:, 0]
        return model.search(*args, width)[0][:, 0]

    def eval_points(self, split: str, n: int) -> Float[np.ndarray, "B N 2"]:
        """Generate the points of an evaluation split; they do not depend on the run's seed."""
        key = evaluation_key(split, 2015)
        count = self.config.evaluation["instances" if split == "test" else "dev_instances"]
        return np.asarray(jax.random.uniform(jax.random.fold_in(key, n), (count, n, 2)))

    def reference_solutions(self, split: str, n: int) -> Solutions:
        """Return the reference solutions of a split, computed once."""
        if (split, n) not in self._references:
            self._references[split, n] = self.solve(self.eval_points(split, n))
        return self._references[split, n]

    def has_metric(self, name: str) -> bool:
        """Return whether the dev split may have a metric, such as 'gap_n5'."""
        return name in {f"{x}_n{n}" for x in self.metric_names for n in self.eval_problems}

    def evaluate(self, state: Any, split: str) -> dict[str, float]:
        """Compute the metrics of each size: 'gap_n5' and so on."""
        return {
            f"{name}_n{n}": float(value)
            for n in self.eval_problems
            for name, value in self.metrics_for_size(state, split, n).items()
        }

    def metrics_for_size(self, state: Any, split: str, n: int) -> Mapping[str, Any]:
        """Compute the metrics of the instances of a split with `n` points."""
        raise NotImplementedError

    # Figures.

    def figures(self, state: Any) -> dict[str, Figure]:
        """Plot predicted and reference solutions, and the pointer distributions of one solution."""
        n = max(self.eval_problems)
        points = self.eval_points("test", n)[:FIGURE_EXAMPLES]
        predicted = [choices[choices < n] for choices in self.predict(state, points)]
        reference = self.reference_solutions("test", n)[:FIGURE_EXAMPLES]
        rows = []
        for title, solutions in (("predicted", predicted), ("reference", reference)):
            pairs = zip(points, solutions, strict=True)
            rows.append([plotting.PointPlot(title, p, self.paths(c)) for p, c in pairs])
        pointer = self.attention_maps(state)[0]
        labels = pointer.keys.labels
        figure = plotting.attention_heads(
            list(pointer.weights),
            labels,
            [f"step {step + 1}: {labels[n]}" for step, n in enumerate(pointer.queries.indices)],
            "pointer distribution at each decoding step",
        )
        return {"solutions": plotting.point_plots(rows), "pointer": figure}

    def samples(self, state: Any) -> str:
        """Format a few predicted solutions, each followed by the reference."""
        n = max(self.eval_problems)
        predicted = self.predict(state, self.eval_points("test", n)[:SAMPLE_EXAMPLES])
        reference = self.reference_solutions("test", n)[:SAMPLE_EXAMPLES]
        lines = [f"predicted and reference solutions for {n} points:"]
        for choices, solution in zip(predicted, reference, strict=True):
            lines.append(" ".join(map(str, choices[choices < n])))
            lines.append("  " + " ".join(map(str, solution)))
        return "\n".join(lines)

    def attention_maps(self, state: Any, inputs: Any = None) -> list[AttentionMap]:
        """Return the pointer distributions of the predicted solutions of a few instances."""
        del inputs
        points = self.eval_points("test", max(self.eval_problems))[:SAMPLE_EXAMPLES]
        titles = [f"instance {k + 1}" for k in range(len(points))]
        return self.pointer_maps(state, points, self.predict(state, points), titles)

    def pointer_maps(
        self,
        state: Any,
        points: Float[np.ndarray, "B N 2"],
        choices: Int[np.ndarray, "B T"],
        titles: Sequence[str],
    ) -> list[AttentionMap]:
        """Return the pointer distributions at every step of padded solutions."""
        n = points.shape[1]
        has_end_token = self.problem_type((n, n)).has_end_token
        keys = Points("points", [*map(str, range(n)), "end"][: n + has_end_token], points[0])
        probabilities = np.asarray(self._distributions(state.params, points, choices[:, None]))
        maps = []
        for k, title in enumerate(titles):
            steps = np.argmax(np.append(choices[k], n) == n) + has_end_token
            maps.append(
                AttentionMap(
                    title,
                    "pointer",
                    probabilities[k, None, None, :steps, : len(keys)],
                    Choices("steps of the solution", choices[k, :steps], self.polygon),
                    dataclasses.replace(keys, coordinates=points[k]),
                )
            )
        return maps

    @partial(jax.jit, static_argnames="self")
    def _distributions(self, params, points, choices):
        """Return the probabilities `[B, T, S]` of all indices at every step of solutions."""
        n, length = points.shape[1], choices.shape[-1]
        problem, count = self.problem_type((n, n)), jnp.int32(n)
        chosen = jnp.pad(chosen_before(choices, n), ((0, 0), (0, 0), (0, 0), (0, 1)))
        mask = problem.valid_mask(chosen, jnp.arange(length)[:, None], count)
        return jnp.exp(self.model(params)(points, count, choices, jnp.int32(length), mask))[:, 0]

    def solve(self, points: Float[np.ndarray, "B N 2"]) -> Solutions:
        """Compute reference solutions on the host."""
        return SOLVERS[self.host_solvers[0]](points)

    def paths(self, choices: Int[np.ndarray, " _"]) -> Sequence[Int[np.ndarray, " _"]]:
        """Return the closed paths that a figure draws for a solution."""
        return [choices]
