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
    return Delaunay(config, workdir)


class Delaunay(PointerTask):
    """Delaunay triangulation task.

    Metrics by number of points: `accuracy`, the fraction of outputs with the same set of triangles
    as the reference; `coverage`, the mean fraction of the reference triangles in the output.
    """

    problem_type = Triangulation
    metric_names = ("accuracy", "coverage")
    polygon = 3
    device_solvers = MappingProxyType(
        {"in_circle_test": DeviceSolver(geometry.delaunay, geometry.MAX_DELAUNAY_POINTS)}
    )
    host_solvers = ("delaunay",)

    def paths(self, choices):
        """Return the triangles."""
        return corners(choices)

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
    """Return the set of triangles of a solution; see `corners`."""
    return frozenset(frozenset(map(int, x)) for x in corners(choices))


def corners(choices: Int[np.ndarray, " _"]) -> Int[np.ndarray, "M 3"]:
    """Return the corners of each triangle; an incomplete last triangle is ignored."""
    return choices[: len(choices) // 3 * 3].reshape(-1, 3)
