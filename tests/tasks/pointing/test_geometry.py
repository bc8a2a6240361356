"""Exhaustive convex hulls and Delaunay triangulations, compared with SciPy."""

import jax
import numpy as np
import pytest

from tasks.pointing import geometry, solvers

BATCH, SIZE = 100, 8
convex_hull, delaunay = jax.jit(geometry.convex_hull), jax.jit(geometry.delaunay)


def solve(solver, points):
    """Solve instances `[B, n, 2]` with the program of `BATCH` padded instances."""
    batch, count, _ = points.shape
    padded = np.zeros((BATCH, SIZE, 2), np.float32)
    padded[:batch, :count] = points
    return np.asarray(solver(padded, np.int32(count)))[:batch]


@pytest.mark.parametrize("count", [3, 4, 7, SIZE])
@pytest.mark.parametrize(
    ("solver", "scipy_solver"),
    [(convex_hull, solvers.convex_hulls), (delaunay, solvers.delaunay_triangulations)],
    ids=["convex_hull", "delaunay"],
)
def test_padded_solutions_equal_scipy(solver, scipy_solver, count):
    points = np.random.default_rng(count).random((BATCH, count, 2), np.float32)
    solutions = solve(solver, points)
    for choices, expected in zip(solutions, scipy_solver(points), strict=True):
        padding = len(choices) - len(expected)
        assert np.array_equal(choices, np.pad(expected, (0, padding), constant_values=SIZE))


def test_longest_hull_has_all_points():
    angle = 2 * np.pi * np.arange(SIZE) / SIZE
    circle = np.stack([np.cos(angle), np.sin(angle)], axis=-1)
    assert np.array_equal(solve(convex_hull, circle[None]), [range(SIZE + 1)])


def test_longest_triangulation_has_2n_minus_5_triangles():
    """The hull of all points is a triangle."""
    inner = 0.1 + 0.3 * np.random.default_rng(0).random((SIZE - 3, 2))
    points = np.concatenate([[[0.0, 0.0], [1.0, 0.0], [0.0, 1.0]], inner])
    [choices] = solve(delaunay, points[None])
    assert np.sum(choices < SIZE) == 3 * (2 * SIZE - 5) == len(choices) - 1
