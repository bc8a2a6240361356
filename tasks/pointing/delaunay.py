"""Delaunay triangulations, triangle by triangle (Vinyals et al. 2015, sec. 3.2 and 4.3)."""

from types import MappingProxyType
from typing import Any

import numpy as np
from jaxtyping import Int

from tasks.pointing import planar
from tasks.pointing.base import OnDevice, Pointing
from tasks.pointing.instances import Triangulation


def build(config: Any, workdir: str) -> "Delaunay":
    """Builds the task from a config.

    Raises:
        UserError: for sizes, labels or values of the model that there are not.
    """
    return Delaunay(config, workdir, Triangulation)


class Delaunay(Pointing):
    """See the module.

    Measures, of each number of points: `accuracy`, the share of answers with all the triangles and
    no other, in whichever order; and `coverage`, the mean share of the triangles that are found.
    """

    on_device = MappingProxyType(
        {"circumcircles": OnDevice(planar.delaunay, planar.MOST_OF_TRIANGULATION)}
    )
    on_host = "delaunay"

    def paths(self, choices):
        """Triangles."""
        return choices[: len(choices) // 3 * 3].reshape(-1, 3)

    def measure(self, state: Any, split: str, n: int) -> dict[str, Any]:
        answers = self.answer(state, self.points_of(split, n))
        right = [triangles(choices) for choices in self.solved(split, n)]
        found = [triangles(choices[choices < n]) for choices in answers]
        pairs = list(zip(found, right, strict=True))
        return {
            "accuracy": np.mean([one == other for one, other in pairs]),
            "coverage": np.mean([len(one & other) / len(other) for one, other in pairs]),
        }


def triangles(choices: Int[np.ndarray, " _"]) -> frozenset[frozenset[int]]:
    """The triangles of an answer; what is left at its end is none."""
    whole = choices[: len(choices) // 3 * 3].reshape(-1, 3)
    return frozenset(frozenset(map(int, corners)) for corners in whole)
