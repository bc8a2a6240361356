"""Traveling salesman problem, supervised by reference tours (Vinyals et al. 2015, sec. 4.4)."""

import copy
from collections.abc import Sequence
from types import MappingProxyType
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float, Int
from matplotlib.figure import Figure

from tasks import plotting
from tasks.attention_maps import AttentionMap
from tasks.base import Solution
from tasks.pointing import policy, search, solvers, tsplib
from tasks.pointing.base import DeviceSolver, PointerTask
from tasks.pointing.held_karp import MAX_POINTS, held_karp
from tasks.pointing.instances import Tour
from training.errors import UserError

SOLVER_BATCH = 100


def build(config: Any, workdir: str) -> "TSP":
    """Build the task from a config.

    Raises:
        UserError: for invalid sizes, labels or model options.
    """
    return TSP(config, workdir)


class TSP(PointerTask):
    """Traveling salesman task.

    Metrics by number of cities: `length`, the mean tour length; `optimal`, the mean length of the
    reference tours; `gap`, the optimality gap `length / optimal - 1`; `valid`, the fraction of
    valid tours if decoding is unconstrained.
    """

    problem_type = Tour
    metric_names = ("length", "optimal", "gap", "valid")
    solution_suffix = ".tour"
    device_solvers = MappingProxyType(
        {"held_karp": DeviceSolver(lambda *args: held_karp(*args)[0], MAX_POINTS)}
    )
    host_solvers = ("local_search", "greedy_edges", "nearest_neighbor", "christofides")
    searches = ("beam", "sampling", "active")

    def solve(self, points):
        return reference_tours(points)

    def _decode(self, params, points, start, constrained):
        options = dict(self.search)
        kind = options.pop("kind")
        if kind == "beam" or not constrained:
            return super()._decode(params, points, start, constrained)

        def find_tour(cities, index):
            """Search with a key that depends on the run's seed and the index of the instance."""
            key = jax.random.fold_in(jax.random.key(self.config.seed), index)
            if kind == "sampling":
                model = self.model(params)
                return search.sample_tour(model, cities, key, **options)[0]
            key, init_key = jax.random.split(key)
            initial = params if pretrained else self.init_params(init_key)
            return search.active_search(self.graphdef, initial, cities, key, **options)[0]

        pretrained = options.pop("pretrained", True)
        return jax.vmap(find_tour)(points, start + jnp.arange(len(points)))

    def ensemble(self, state: Any, others: Sequence[tuple[Any, Any]]) -> tuple["TSP", Any]:
        """Return a task and a state that evaluate the shortest of the tours of several policies.

        All policies search with the options of this task. With greedy tours of 16 policies, this is
        greedy@16 of Bello et al. 2016, table 2. The metric `valid` is of the first policy.
        """
        members = [self, *(copy.copy(task) for task, _ in others)]
        for task in members:
            task.search = self.search

        def shortest(params, points, start, constrained):
            if not constrained:
                return self._decode(params[0], points, start, constrained)
            pairs = zip(members, params, strict=True)
            tours = jnp.stack([task._decode(x, points, start, constrained) for task, x in pairs], 1)
            best = jnp.argmin(policy.tour_lengths(points, tours), axis=1)
            return tours[jnp.arange(len(points)), best]

        joined = copy.copy(self)
        joined.decode = jax.jit(shortest, static_argnames="constrained")
        return joined, state._replace(params=[state.params, *(x.params for _, x in others)])

    def metrics_for_size(self, state: Any, split: str, n: int) -> dict[str, Any]:
        cities = self.eval_points(split, n)
        length = np.mean(tour_lengths(cities, self.predict(state, cities)))
        optimal = np.mean(tour_lengths(cities, np.stack(self.reference_solutions(split, n))))
        unconstrained = np.sort(self.predict(state, cities, constrained=False), axis=1)
        return {
            "length": length,
            "optimal": optimal,
            "gap": length / optimal - 1.0,
            "valid": np.mean(np.all(unconstrained == np.arange(n), axis=1)),
        }

    def solve_instance(self, state: Any, content: bytes) -> Solution:
        """Find a tour through the cities of a TSPLIB file."""
        instance = self.read_instance(content)
        n, (low, high) = len(instance.cities), self.config.data.sizes
        cities = tsplib.unit_square_points(instance)[None]
        [order] = np.asarray(self.decode(state.params, cities, 0, constrained=True))
        length = tsplib.tour_length(instance, order)
        message = f"Found a tour of {instance.name} with length {length}."
        if not low <= n <= high:
            message += f" The model was trained on {low} to {high} cities; this instance has {n}."
        return Solution(message, tsplib.format_tour(instance, order))

    def read_instance(self, content: bytes) -> tsplib.Instance:
        """Parse a TSPLIB file.

        Raises:
            UserError: if the file is invalid, or the model does not support its number of cities.
        """
        instance = tsplib.parse(content)
        n, low = len(instance.cities), Tour.min_points
        if n < low:
            raise UserError(f"{instance.name} has {n} cities: a tour needs at least {low}.")
        if self.config.model.kind == "seq2seq" and n != self.problem.high:
            raise UserError(
                f"{instance.name} has {n} cities: a model of kind 'seq2seq' supports only the "
                f"number of its training instances, {self.problem.high}."
            )
        return instance

    def attention_maps(self, state: Any, inputs: Any = None) -> list[AttentionMap]:
        """Return the pointer distributions of tours, by default of a few test instances."""
        if inputs is None:
            return super().attention_maps(state)
        instance = self.read_instance(inputs)
        cities = tsplib.unit_square_points(instance)[None]
        order = np.asarray(self.decode(state.params, cities, 0, constrained=True))
        return self.pointer_maps(state, cities, order, [instance.name])

    def figures(self, state: Any) -> dict[str, Figure]:
        """Plot the optimality gap by number of cities, and the figures of every pointer task."""
        low, high = self.config.data.sizes
        sizes = sorted({*np.linspace(low, high, 6).astype(int).tolist(), *self.eval_problems})
        gaps = []
        for n in sizes:
            cities = self.eval_points("dev", n)[: self.config.evaluation.batch]
            tours = self.predict(state, cities), np.stack(self.solve(cities))
            length, optimal = (np.mean(tour_lengths(cities, order)) for order in tours)
            gaps.append(float(length / optimal - 1.0))
        figure = plotting.metric_by_size(sizes, gaps, "cities", "optimality gap", (low, high))
        return super().figures(state) | {"gap_by_size": figure}


def tour_lengths(
    cities: Float[np.ndarray, "B N 2"], order: Int[np.ndarray, "B N"]
) -> Float[np.ndarray, " B"]:
    """Compute the lengths of closed tours."""
    path = np.take_along_axis(cities, order[..., None], axis=1)
    return np.linalg.norm(path - np.roll(path, -1, axis=1), axis=-1).sum(1)


def reference_tours(cities: Float[np.ndarray, "B N 2"]) -> list[Int[np.ndarray, " N"]]:
    """Compute optimal tours by Held-Karp, or short tours by local search if N > `MAX_POINTS`."""
    batch, n = cities.shape[:2]
    if n > MAX_POINTS:
        return solvers.local_search_tours(cities)
    solve = jax.jit(held_karp)
    padded = np.pad(cities, ((0, -batch % SOLVER_BATCH), (0, 0), (0, 0)))
    parts = padded.reshape(-1, SOLVER_BATCH, n, 2)
    return list(np.concatenate([solve(part, jnp.int32(n))[0] for part in parts])[:batch])
