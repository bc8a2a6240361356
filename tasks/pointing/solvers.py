"""Reference solvers on the host: SciPy, LKH and heuristics.

Each solver maps points `[B, n, 2]` to a list of solutions without end tokens. The libraries are
imported when a solver is called, so that the processes of the label store, which import this
module, start quickly.
"""

from collections.abc import Callable
from functools import partial

import numpy as np
from jaxtyping import Float, Int

from tasks.pointing import heuristics

Points = Float[np.ndarray, "B N 2"]
Solutions = list[Int[np.ndarray, " _"]]
Solver = Callable[[Points], Solutions]

DISTANCE_SCALE = 40_000  # LKH takes integers; the scaled diagonal of the unit square fits 16 bits


def local_search_tours(points: Points) -> Solutions:
    """Find short tours by local search, counter-clockwise from the first city.

    Uses LKH (package elkai), which finds the optimal tour of 20 cities in 3 ms, and takes 10 ms for
    25 and 80 ms for 50 cities. The result is deterministic, because the search has no time limit.
    """
    import elkai

    solutions = []
    for cities in points:
        distances = np.linalg.norm(cities[:, None] - cities[None], axis=-1) * DISTANCE_SCALE
        rounded = np.ceil(distances).astype(np.int64)  # rounding up keeps the triangle inequality
        order = np.array(elkai.DistanceMatrix(rounded.tolist()).solve_tsp()[:-1])
        solutions.append(counter_clockwise(cities, np.roll(order, -int(np.argmin(order)))))
    return solutions


def heuristic_tours(
    heuristic: Callable[[heuristics.Distances], heuristics.Order], points: Points
) -> Solutions:
    """Find tours by a heuristic, counter-clockwise from the first city."""
    solutions = []
    for cities in points:
        order = heuristic(heuristics.pairwise_distances(cities))
        solutions.append(counter_clockwise(cities, np.roll(order, -int(np.argmin(order)))))
    return solutions


def counter_clockwise(
    cities: Float[np.ndarray, "N 2"], order: Int[np.ndarray, " N"]
) -> Int[np.ndarray, " N"]:
    """Reverse a tour whose signed area is negative, keeping the first city."""
    x, y = cities[order].T
    area = np.sum(x * np.roll(y, -1) - np.roll(x, -1) * y)
    return order if area >= 0 else np.roll(order[::-1], 1)


def convex_hulls(points: Points) -> Solutions:
    """Compute the vertices of convex hulls, counter-clockwise from the vertex of lowest index."""
    from scipy.spatial import ConvexHull

    solutions = []
    for instance in points:
        vertices = ConvexHull(instance).vertices
        solutions.append(np.roll(vertices, -int(np.argmin(vertices))))
    return solutions


def delaunay_triangulations(points: Points) -> Solutions:
    """Compute Delaunay triangulations, with the triangles sorted by their incenters (x, then y).

    The indices of a triangle are in ascending order. Both orders follow Vinyals et al. 2015,
    sec. 3.2.
    """
    from scipy.spatial import Delaunay

    solutions = []
    for instance in points:
        triangles = np.sort(Delaunay(instance).simplices, axis=1)
        corners = instance[triangles]  # [M, 3, 2]
        opposite = np.linalg.norm(np.roll(corners, -1, 1) - np.roll(corners, 1, 1), axis=-1)
        incenters = np.sum(opposite[..., None] * corners, 1) / opposite.sum(1, keepdims=True)
        order = np.lexsort((incenters[:, 1], incenters[:, 0]))
        solutions.append(triangles[order].reshape(-1))
    return solutions


def pad_solutions(solutions: Solutions) -> Int[np.ndarray, "B T"]:
    """Stack solutions to one array, padded with -1."""
    padded = np.full((len(solutions), max(map(len, solutions))), -1, np.int16)
    for row, solution in zip(padded, solutions, strict=True):
        row[: len(solution)] = solution
    return padded


SOLVERS: dict[str, Solver] = {
    "local_search": local_search_tours,
    "greedy_edges": partial(heuristic_tours, heuristics.greedy_edges),  # A1
    "nearest_neighbor": partial(heuristic_tours, heuristics.nearest_neighbor),  # A2
    "christofides": partial(heuristic_tours, heuristics.christofides),  # A3
    "convex_hull": convex_hulls,
    "delaunay": delaunay_triangulations,
}
