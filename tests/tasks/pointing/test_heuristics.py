"""Heuristics for the traveling salesman problem."""

import itertools

import networkx
import numpy as np
import pytest

from tasks.pointing import heuristics, solvers
from tasks.pointing.tsp import tour_lengths

HEURISTICS = ("greedy_edges", "nearest_neighbor", "christofides")


def test_greedy_path_equals_a_union_of_components(monkeypatch):
    """The edges are those of Kruskal's algorithm with at most two edges per city."""
    rng = np.random.default_rng(0)
    monkeypatch.setattr(heuristics, "OPEN_PATH_PASSES", 0)
    for n in (3, 8, 15):
        distances = heuristics.pairwise_distances(rng.random((n, 2)))
        graph = networkx.empty_graph(n)
        pairs = sorted(itertools.combinations(range(n), 2), key=lambda pair: distances[pair])
        for a, b in pairs:
            degrees = max(graph.degree(a), graph.degree(b))
            if degrees < 2 and not networkx.has_path(graph, a, b):
                graph.add_edge(a, b)
        path = heuristics.greedy_edges(distances)
        actual = {frozenset(edge) for edge in itertools.pairwise(path.tolist())}
        assert actual == set(map(frozenset, graph.edges))


def test_two_opt_tours_have_no_improving_reversal():
    rng = np.random.default_rng(1)
    for n in (4, 9, 20):
        cities = rng.random((n, 2))
        distances = heuristics.pairwise_distances(cities)
        tour = heuristics.two_opt(distances, rng.permutation(n))
        assert sorted(tour) == [*range(n)]
        reversals = [
            np.concatenate([tour[:i], tour[i:j][::-1], tour[j:]])
            for i, j in itertools.combinations(range(n + 1), 2)
        ]
        lengths = tour_lengths(np.stack([cities] * len(reversals)), np.stack(reversals))
        assert lengths.min() > distances[tour, np.roll(tour, -1)].sum() - 1e-9


@pytest.mark.parametrize(
    ("name", "n", "published"),
    [
        *(("greedy_edges", n, length) for n, length in ((5, 2.18), (10, 3.07), (20, 4.24))),
        *(("nearest_neighbor", n, length) for n, length in ((5, 2.12),)),
        *(("christofides", n, length) for n, length in ((5, 2.12), (10, 2.87))),
    ],
)
def test_tours_have_published_lengths(name, n, published):
    """Vinyals et al. 2015, table 2; tolerance of three standard errors and the rounding."""
    cities = np.random.default_rng(n).random((100, n, 2)).astype(np.float32)
    lengths = tour_lengths(cities, np.stack(solvers.SOLVERS[name](cities)))
    assert abs(lengths.mean() - published) < 3 * lengths.std() / 10 + 0.005


@pytest.mark.parametrize("name", HEURISTICS)
def test_tours_are_counter_clockwise_from_the_first_city(name):
    cities = np.random.default_rng(0).random((4, 7, 2)).astype(np.float32)
    for points, tour in zip(cities, solvers.SOLVERS[name](cities), strict=True):
        assert tour[0] == 0 and sorted(tour) == [*range(7)]
        np.testing.assert_array_equal(solvers.counter_clockwise(points, tour), tour)
