"""Convex hulls (Vinyals et al. 2015, sec. 3.1 and 4.2)."""

from types import MappingProxyType
from typing import Any

import numpy as np
from jaxtyping import Bool, Float, Int

from tasks.pointing import geometry
from tasks.pointing.base import DeviceSolver, PointerTask
from tasks.pointing.instances import Hull

# The paper reports no area ("FAIL") if more than this fraction of outputs are not simple polygons.
MAX_INVALID_FRACTION = 0.01


def build(config: Any, workdir: str) -> "ConvexHull":
    """Build the task from a config.

    Raises:
        UserError: for invalid sizes, labels or model options.
    """
    return ConvexHull(config, workdir)


class ConvexHull(PointerTask):
    """Convex hull task.

    Metrics by number of points: `accuracy`, the fraction of outputs that are the hull, from any
    first vertex; `simple`, the fraction of outputs that are simple polygons; `area`, the mean
    fraction of the hull's area that simple polygons cover, omitted if too few outputs are simple.
    """

    problem_type = Hull
    metric_names = ("accuracy", "simple", "area")
    device_solvers = MappingProxyType(
        {"orientation_test": DeviceSolver(geometry.convex_hull, geometry.MAX_HULL_POINTS)}
    )
    host_solvers = ("convex_hull",)

    def metrics_for_size(self, state: Any, split: str, n: int) -> dict[str, Any]:
        points = self.eval_points(split, n)
        choices, hulls = self.predict(state, points), self.reference_solutions(split, n)
        polygons = [sequence[sequence < n] for sequence in choices]
        simple = np.array([is_simple(p[i]) for p, i in zip(points, polygons, strict=True)])
        area = np.array(
            [
                polygon_area(p[i]) / polygon_area(p[hull])
                for p, i, hull in zip(points, polygons, hulls, strict=True)
            ]
        )
        exact = [same_polygon(i, hull) for i, hull in zip(polygons, hulls, strict=True)]
        metrics = {"accuracy": np.mean(exact), "simple": np.mean(simple)}
        if metrics["simple"] >= 1 - MAX_INVALID_FRACTION:
            metrics["area"] = np.mean(area[simple])
        return metrics


def same_polygon(a: Int[np.ndarray, " _"], b: Int[np.ndarray, " _"]) -> bool:
    """Return whether two cyclic sequences of distinct indices have the same edges.

    They may start at different vertices and have different orientations.
    """
    if len(a) != len(b) or not len(a) or a[0] not in b:
        return False
    return any(np.array_equal(a, np.roll(x, -int(np.argmax(x == a[0])))) for x in (b, b[::-1]))


def polygon_area(vertices: Float[np.ndarray, "M 2"]) -> float:
    """Compute the area of a simple polygon of either orientation (shoelace formula)."""
    x, y = vertices.T
    return abs(float(np.sum(x * np.roll(y, -1) - np.roll(x, -1) * y))) / 2


def is_simple(vertices: Float[np.ndarray, "M 2"]) -> bool:
    """Return whether a polygon has at least three distinct vertices and no crossing edges."""
    count = len(vertices)
    if count < 3 or len(np.unique(vertices, axis=0)) < count:
        return False
    starts, ends = vertices, np.roll(vertices, -1, axis=0)
    left = lambda a, b, c: geometry.cross(b[:, None] - a[:, None], c[None] - a[:, None]) > 0
    # Edges i and j cross if the line of each separates the end points of the other.
    separates: Bool[np.ndarray, "M M"] = left(starts, ends, starts) != left(starts, ends, ends)
    edges = np.arange(count)
    offset = (edges[:, None] - edges[None]) % count
    not_adjacent = (offset > 1) & (offset < count - 1)
    return not bool(np.any(separates & separates.T & not_adjacent))
