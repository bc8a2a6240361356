"""Reference solvers on the host: properties that define their solutions."""

import itertools

import numpy as np
import pytest

from tasks.pointing import solvers
from tasks.pointing.geometry import cross
from tasks.pointing.tsp import reference_tours


@pytest.fixture
def rng():
    return np.random.default_rng(0)


def test_hulls_are_counter_clockwise_and_contain_all_points(rng):
    for points in rng.random((20, 9, 2)):
        [hull] = solvers.convex_hulls(points[None])
        assert hull[0] == min(hull)
        for a, b in zip(hull, np.roll(hull, -1), strict=True):
            left = cross(points[b] - points[a], points - points[a])
            assert (np.delete(left, [a, b]) > 0).all()


def test_circumcircles_are_empty_and_incenters_are_sorted(rng):
    for points in rng.random((10, 7, 2)):
        [choices] = solvers.delaunay_triangulations(points[None])
        incenters = []
        for a, b, c in choices.reshape(-1, 3):
            assert a < b < c
            corners = points[[a, b, c]]
            # The circumcenter has the same distance to all corners: two linear equations.
            center = np.linalg.solve(
                2 * (corners[1:] - corners[0]), (corners[1:] ** 2 - corners[0] ** 2).sum(1)
            )
            radius = np.linalg.norm(corners[0] - center)
            others = np.delete(points, [a, b, c], axis=0)
            assert (np.linalg.norm(others - center, axis=1) > radius - 1e-9).all()
            sides = [np.linalg.norm(corners[i - 1] - corners[i - 2]) for i in range(3)]
            incenters.append(np.average(corners[:, 0], weights=sides))
        assert incenters == sorted(incenters)
        hull = len(solvers.convex_hulls(points[None])[0])
        assert len(incenters) == 2 * len(points) - 2 - hull  # Euler's formula


def test_local_search_finds_the_tours_of_held_karp(rng):
    """The first cities and the directions are equal too."""
    cities = rng.random((20, 9, 2)).astype(np.float32)
    actual, expected = solvers.local_search_tours(cities), reference_tours(cities)
    np.testing.assert_array_equal(np.stack(actual), np.stack(expected))


def test_edges_of_local_search_tours_do_not_cross(rng):
    """A tour with a crossing is not 2-optimal."""
    cities = rng.random((3, 25, 2)).astype(np.float32)
    separates = lambda a, b, c, d: cross(b - a, c - a) * cross(b - a, d - a) < 0
    for points, tour in zip(cities, solvers.local_search_tours(cities), strict=True):
        edges = [(points[a], points[b]) for a, b in zip(tour, np.roll(tour, -1), strict=True)]
        for (a, b), (c, d) in itertools.combinations(edges, 2):
            assert not (separates(a, b, c, d) and separates(c, d, a, b))
