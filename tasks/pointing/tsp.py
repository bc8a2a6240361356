"""The travelling salesman by supervision: tours learned from optimal ones (Vinyals et al. 2015)."""

from types import MappingProxyType
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float, Int
from matplotlib.figure import Figure

from tasks import plotting
from tasks.base import Solution
from tasks.pointing import held_karp, solvers, tsplib
from tasks.pointing.base import OnDevice, Pointing
from tasks.pointing.instances import Tour
from training.errors import UserError


def build(config: Any, workdir: str) -> "TSP":
    """Builds the task from a config.

    Raises:
        UserError: for sizes, labels or values of the model that there are not.
    """
    return TSP(config, workdir)


class TSP(Pointing):
    """See the module.

    Measures, of each number of cities: `length`, the mean of tours; `optimal`, that of the
    shortest; `gap`, by how much the first is more, as a fraction; and `valid`, the share of answers
    that are tours if nothing forbids others.
    """

    solution_suffix = ".tour"
    on_device = MappingProxyType(
        {"held_karp": OnDevice(lambda *cities: held_karp.held_karp(*cities)[0], held_karp.MOST)}
    )
    on_host = "local_search"

    def __init__(self, config: Any, workdir: str):
        super().__init__(config, workdir, Tour)

    def solve(self, points):
        return shortest(points)

    def measure(self, state: Any, split: str, n: int) -> dict[str, Any]:
        cities = self.points_of(split, n)
        length = np.mean(tour_lengths(cities, self.answer(state, cities)))
        optimal = np.mean(tour_lengths(cities, np.stack(self.solved(split, n))))
        free = np.sort(self.answer(state, cities, free=True), axis=1)
        return {
            "length": length,
            "optimal": optimal,
            "gap": length / optimal - 1.0,
            "valid": np.mean(np.all(free == np.arange(n), axis=1)),
        }

    def solve_instance(self, state: Any, text: str) -> Solution:
        """A tour through the cities of a TSPLIB file."""
        instance = tsplib.read(text)
        n, (low, high) = len(instance.cities), self.config.data.sizes
        if n < Tour.least:
            raise UserError(f"{instance.name} has {n} cities: there is nothing to choose.")
        cities = tsplib.normalised(instance.cities)[None]
        order = np.asarray(self._answers(state.params, cities, n=n, free=False))[0]
        said = f"A tour of {instance.name}, length {tsplib.length(instance.cities, order)}."
        if not low <= n <= high:
            said += f" The model was trained on {low} to {high} cities, and this has {n}."
        return Solution(said, tsplib.tour(instance, order))

    def figures(self, state: Any) -> dict[str, Figure]:
        """Those of any pointing; and how far tours are from the shortest, by number of cities."""
        (low, high), rows = self.config.data.sizes, self.config.evaluation.rows
        sizes = sorted({*np.linspace(low, high, 6).astype(int).tolist(), *self.tests})
        gaps = []
        for n in sizes:
            cities = self.points_of("dev", n)[:rows]
            answers, right = self.answer(state, cities), np.stack(self.solve(cities))
            ours, best = (np.mean(tour_lengths(cities, x)) for x in (answers, right))
            gaps.append(ours / best - 1.0)
        shaded = (low, high)
        by_size = plotting.curve(sizes, gaps, "cities", "longer than the shortest", shaded)
        return super().figures(state) | {"gap_by_size": by_size}


def tour_lengths(
    cities: Float[np.ndarray, "B N 2"], order: Int[np.ndarray, "B N"]
) -> Float[np.ndarray, " B"]:
    """Lengths of closed tours."""
    path = np.take_along_axis(cities, order[..., None], axis=1)
    return np.linalg.norm(path - np.roll(path, -1, axis=1), axis=-1).sum(1)


def shortest(cities: Float[np.ndarray, "B N 2"]) -> list[Int[np.ndarray, " N"]]:
    """Shortest tours: exactly for a dozen cities, beyond them as short as local search finds."""
    rows, n, together = len(cities), cities.shape[1], 100
    if n > held_karp.MOST:
        return solvers.tours(cities)
    solve = jax.jit(held_karp.held_karp)
    padded = np.pad(cities, ((0, -rows % together), (0, 0), (0, 0)))
    parts = [solve(part, jnp.int32(n))[0] for part in padded.reshape(-1, together, n, 2)]
    return list(np.concatenate(parts)[:rows])
