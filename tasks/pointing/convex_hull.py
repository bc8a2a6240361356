"""Convex hulls, point by point (Vinyals et al. 2015, sec. 3.1 and 4.2)."""

from types import MappingProxyType
from typing import Any

import numpy as np
from jaxtyping import Bool, Float, Int

from tasks.pointing import planar
from tasks.pointing.base import OnDevice, Pointing
from tasks.pointing.instances import Hull

FAIL = 0.01  # share of answers that are no simple polygons, above which the paper gives no area


def build(config: Any, workdir: str) -> "ConvexHull":
    """Builds the task from a config.

    Raises:
        UserError: for sizes, labels or values of the model that there are not.
    """
    return ConvexHull(config, workdir, Hull)


class ConvexHull(Pointing):
    """See the module.

    Measures, of each number of points: `accuracy`, the share of answers that are the hull, from
    whichever corner they start; `simple`, the share of those that are simple polygons; and `area`,
    the share of the hulls' areas that these cover, unless too few are simple.
    """

    on_device = MappingProxyType({"sides": OnDevice(planar.convex_hull, planar.MOST_OF_HULL)})
    on_host = "convex_hull"

    def measure(self, state: Any, split: str, n: int) -> dict[str, Any]:
        rows = self.points_of(split, n)
        answers, hulls = self.answer(state, rows), self.solved(split, n)
        polygons = [choices[choices < n] for choices in answers]
        simple = np.array([is_simple(r[p]) for r, p in zip(rows, polygons, strict=True)])
        areas = np.array(
            [area(r[p]) / area(r[h]) for r, p, h in zip(rows, polygons, hulls, strict=True)]
        )
        same = [same_polygon(p, h) for p, h in zip(polygons, hulls, strict=True)]
        measures = {"accuracy": np.mean(same), "simple": np.mean(simple)}
        if measures["simple"] >= 1 - FAIL:
            measures["area"] = np.mean(areas[simple])
        return measures


def same_polygon(one: Int[np.ndarray, " _"], other: Int[np.ndarray, " _"]) -> bool:
    """Whether two cycles are one, from whichever corner they start."""
    if len(one) != len(other) or not len(one) or one[0] not in other:
        return False
    start = int(np.argmax(other == one[0]))
    return bool(np.array_equal(one, np.roll(other, -start)))


def area(corners: Float[np.ndarray, "M 2"]) -> float:
    """Of a simple polygon, in whichever direction it is gone around."""
    x, y = corners.T
    return abs(float(np.sum(x * np.roll(y, -1) - np.roll(x, -1) * y))) / 2


def is_simple(corners: Float[np.ndarray, "M 2"]) -> bool:
    """Whether a polygon has at least three corners and no two of its sides cross or meet."""
    count = len(corners)
    if count < 3 or len(np.unique(corners, axis=0)) < count:
        return False
    starts, ends = corners, np.roll(corners, -1, axis=0)
    left = lambda a, b, c: planar.cross(b[:, None] - a[:, None], c[None] - a[:, None]) > 0
    # Side i parts the two ends of side j, and the other way round.
    parts: Bool[np.ndarray, "M M"] = left(starts, ends, starts) != left(starts, ends, ends)
    sides = np.arange(count)
    apart = (sides[:, None] - sides[None]) % count
    strangers = (apart > 1) & (apart < count - 1)
    return not bool(np.any(parts & parts.T & strangers))
