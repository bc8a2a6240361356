"""Answers to questions about points by well-kept libraries, on the host.

Each solver takes points `[B, n, 2]` and returns a list with the choices of each row, without an
end. Only NumPy is imported before one is asked, for their processes start with this module.
"""

from collections.abc import Callable

import numpy as np
from jaxtyping import Float, Int

Points = Float[np.ndarray, "B N 2"]
Choices = list[Int[np.ndarray, " _"]]
Solver = Callable[[Points], Choices]

UNITS = 40_000  # of integer length to the side of the square: its diagonal fits 16 bits


def tours(points: Points) -> Choices:
    """Tours by local search, from the first city on, counter-clockwise.

    By LKH (elkai), which finds the shortest of 20 cities in 3 ms, and takes 10 ms for 25 and 80 ms
    for 50. It stops by what it has found and not by the clock, so labels are the same each time.
    """
    import elkai

    found = []
    for cities in points:
        lengths = np.linalg.norm(cities[:, None] - cities[None], axis=-1) * UNITS
        whole = np.ceil(lengths).astype(np.int64)  # so the triangle inequality still holds
        order = np.array(elkai.DistanceMatrix(whole.tolist()).solve_tsp()[:-1])
        found.append(turned(cities, np.roll(order, -int(np.argmin(order)))))
    return found


def turned(cities: Float[np.ndarray, "N 2"], order: Int[np.ndarray, " N"]) -> Int[np.ndarray, " N"]:
    """The tour in the direction that has a positive area, from the same first city."""
    x, y = cities[order].T
    area = np.sum(x * np.roll(y, -1) - np.roll(x, -1) * y)
    return order if area >= 0 else np.roll(order[::-1], 1)


def hulls(points: Points) -> Choices:
    """Corners of convex hulls, counter-clockwise from that of the lowest number, by scipy."""
    from scipy.spatial import ConvexHull

    found = []
    for row in points:
        corners = ConvexHull(row).vertices
        found.append(np.roll(corners, -int(np.argmin(corners))))
    return found


def triangulations(points: Points) -> Choices:
    """Delaunay triangles by scipy: in each the points ascend, and the triangles' incentres do.

    Source: Vinyals et al. 2015, sec. 3.2. An incentre's first coordinate comes first.
    """
    from scipy.spatial import Delaunay

    found = []
    for row in points:
        triangles = np.sort(Delaunay(row).simplices, axis=1)
        corners = row[triangles]  # [M, 3, 2]
        opposite = np.linalg.norm(np.roll(corners, -1, 1) - np.roll(corners, 1, 1), axis=-1)
        centres = np.sum(opposite[..., None] * corners, 1) / opposite.sum(1, keepdims=True)
        found.append(triangles[np.lexsort((centres[:, 1], centres[:, 0]))].reshape(-1))
    return found


def padded(choices: Choices) -> Int[np.ndarray, "B T"]:
    """Choices of all rows in one array, -1 after the last of each."""
    rows = np.full((len(choices), max(map(len, choices))), -1, np.int16)
    for row, answer in zip(rows, choices, strict=True):
        row[: len(answer)] = answer
    return rows


SOLVERS: dict[str, Solver] = {
    "local_search": tours,
    "convex_hull": hulls,
    "delaunay": triangulations,
}
