"""Delaunay triangulations (Vinyals et al. 2015, sec. 3.2 and 4.3)."""

from types import MappingProxyType
from typing import Any

import numpy as np
from jaxtyping import Int

from tasks.pointing import geometry
from tasks.pointing.base import DeviceSolver, PointerTask
from tasks.pointing.instances import Triangulation


def build(config: Any, workdir: str) -> "Delaunay":
    """Build the task from a config.

    Raises:
        UserError: for invalid sizes, labels or model options.
    """
    return Delaunay(config, workdir, Triangulation)


class Delaunay(PointerTask):
    """Delaunay triangulation task.

    Metrics by number of points: `accuracy`, the fraction of outputs with the same set of triangles
    as the reference; `coverage`, the mean fraction of the reference triangles in the output.
    """

    polygon = 3
    device_solvers = MappingProxyType(
        {"in_circle_test": DeviceSolver(geometry.delaunay, geometry.MAX_DELAUNAY_POINTS)}
    )
    host_solvers = ("delaunay",)

    def paths(self, choices):
        """Return the triangles."""
        return choices[: len(choices) // 3 * 3].reshape(-1, 3)

    def metrics_for_size(self, state: Any, split: str, n: int) -> dict[str, Any]:
        choices = self.predict(state, self.eval_points(split, n))
        predicted = [triangles(sequence[sequence < n]) for sequence in choices]
        reference = [triangles(solution) for solution in self.reference_solutions(split, n)]
        pairs = list(zip(predicted, reference, strict=True))
        return {
            "accuracy": np.mean([p == r for p, r in pairs]),
            "coverage": np.mean([len(p & r) / len(r) for p, r in pairs]),
        }


def triangles(choices: Int[np.ndarray, " _"]) -> frozenset[frozenset[int]]:
    """Return the set of triangles of a solution; an incomplete last triangle is ignored."""
    complete = choices[: len(choices) // 3 * 3].reshape(-1, 3)
    return frozenset(frozenset(map(int, corners)) for corners in complete)
