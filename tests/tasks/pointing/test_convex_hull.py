"""Convex hull task: polygons and metrics."""

import itertools

import numpy as np
import pytest

import tasks
from configs import ptrnet_hull
from tasks.pointing.convex_hull import is_simple, polygon_area, same_polygon
from tests.tasks.pointing.small import UNUSED_STATE, predict_references, small_config

SQUARE = np.array([[0.0, 0.0], [2.0, 0.0], [2.0, 1.0], [0.0, 1.0]])


@pytest.fixture
def task(tmp_path):
    return tasks.build(small_config(ptrnet_hull), str(tmp_path))


def test_area_does_not_depend_on_orientation():
    assert polygon_area(SQUARE) == polygon_area(SQUARE[::-1]) == 2.0


def test_simple_polygons_have_distinct_vertices_and_no_crossing_edges():
    assert is_simple(SQUARE) and is_simple(SQUARE[[1, 2, 3, 0]]) and is_simple(SQUARE[:3])
    assert not is_simple(SQUARE[[0, 2, 1, 3]])  # crossing edges
    assert not is_simple(SQUARE[:2]) and not is_simple(SQUARE[[0, 1, 2, 0]])


def test_star_shaped_polygons_are_simple_and_most_random_polygons_are_not():
    rng = np.random.default_rng(0)
    for points in rng.random((20, 9, 2)):
        angle = np.arctan2(*(points - points.mean(0)).T)
        assert is_simple(points[np.argsort(angle)])
    assert sum(map(is_simple, rng.random((50, 9, 2)))) < 10


def edges(polygon):
    return {frozenset(edge) for edge in zip(polygon, [*polygon[1:], polygon[0]], strict=True)}


def test_polygons_are_equal_if_their_edges_are():
    """Vinyals et al. 2015, sec. 4.2: sequences are equal if they represent the same polygon."""
    reference = np.array([1, 4, 2, 3])
    for other in itertools.permutations(reference):
        expected = edges(other) == edges(reference.tolist())
        assert same_polygon(np.array(other), reference) == expected
    for other in ([1, 4, 2], [1, 4, 2, 5], []):
        assert not same_polygon(np.array(other, int), reference)


def test_metrics_of_reference_hulls_are_perfect(task):
    predict_references(task)
    metrics = task.metrics_for_size(UNUSED_STATE, "dev", 5)
    assert metrics == pytest.approx({"accuracy": 1.0, "simple": 1.0, "area": 1.0})
    assert task.metric_names == tuple(metrics)


def test_area_is_omitted_if_too_few_polygons_are_simple(task):
    task.predict = lambda state, points: np.zeros((len(points), 6), int)
    metrics = task.metrics_for_size(UNUSED_STATE, "dev", 5)
    assert metrics == {"accuracy": 0.0, "simple": 0.0}
