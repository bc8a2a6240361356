"""Delaunay triangulation task: metrics."""

import numpy as np
import pytest

import tasks
from configs import ptrnet_delaunay
from tasks.pointing.delaunay import triangles
from tests.tasks.pointing.small import UNUSED_STATE, predict_references, small_config


def test_triangles_are_unordered_and_incomplete_triangles_are_ignored():
    actual = triangles(np.array([2, 0, 1, 1, 2, 3, 0]))
    assert actual == triangles(np.array([3, 2, 1, 0, 1, 2])) and len(actual) == 2


def test_metrics_of_reference_triangulations_are_perfect(tmp_path):
    task = tasks.build(small_config(ptrnet_delaunay), str(tmp_path))
    predict_references(task)
    metrics = task.metrics_for_size(UNUSED_STATE, "dev", 5)
    assert metrics == pytest.approx({"accuracy": 1.0, "coverage": 1.0})
    assert task.metric_names == tuple(metrics)
