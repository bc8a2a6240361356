"""Supervised traveling salesman task: metrics, constrained decoding and reference tours."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import tasks
from configs import ptrnet_tsp
from tasks.pointing import solvers
from tasks.pointing.tsp import reference_tours, tour_lengths
from tests.commands import fast_compilation
from tests.tasks.pointing.small import UNUSED_STATE, predict_references, small_config
from training.errors import UserError
from training.state import TrainState


def nearest_neighbor_tours(cities):
    """Tours that start at the first city and continue to the nearest unvisited city."""
    batch, n, _ = cities.shape
    order, unvisited = np.zeros((batch, n), int), np.ones((batch, n), bool)
    for step in range(1, n):
        unvisited[np.arange(batch), order[:, step - 1]] = False
        last = cities[np.arange(batch), order[:, step - 1]]
        distance = np.linalg.norm(cities - last[:, None], axis=-1)
        order[:, step] = np.argmin(np.where(unvisited, distance, np.inf), axis=1)
    return order


@pytest.mark.parametrize(("n", "published"), [(20, 4.50), (50, 7.00)])
def test_nearest_neighbor_tours_have_published_lengths(n, published):
    """Kool et al. 2019, table 1; tolerance of three standard errors and the rounding."""
    cities = np.random.default_rng(n).random((2_000, n, 2))
    lengths = tour_lengths(cities, nearest_neighbor_tours(cities))
    assert abs(lengths.mean() - published) < 3 * lengths.std() / 2_000**0.5 + 0.005


def test_local_search_solves_instances_beyond_the_held_karp_limit():
    cities = np.random.default_rng(0).random((2, 13, 2)).astype(np.float32)
    expected = np.stack(solvers.local_search_tours(cities))
    np.testing.assert_array_equal(np.stack(reference_tours(cities)), expected)


def test_metrics_of_reference_tours_are_perfect(tmp_path):
    task = tasks.build(small_config(ptrnet_tsp), str(tmp_path))
    predict_references(task)
    metrics = task.metrics_for_size(UNUSED_STATE, "dev", 5)
    assert abs(metrics["gap"]) < 1e-6 and metrics["valid"] == 1.0
    assert task.metric_names == tuple(metrics)


def test_untrained_model_predicts_tours_only_if_constrained(tmp_path):
    task = tasks.build(small_config(ptrnet_tsp), str(tmp_path))
    task.solve = lambda cities: list(nearest_neighbor_tours(cities))
    with fast_compilation():
        params = jax.jit(task.init_params)(jax.random.key(0))
        state = TrainState(jnp.int32(0), params, None)
        assert task.metrics_for_size(state, "dev", 6)["valid"] < 0.5
        tours = np.sort(task.predict(state, task.eval_points("dev", 6)), axis=1)
    np.testing.assert_array_equal(tours, np.broadcast_to(np.arange(6), tours.shape))


def test_fixed_output_layer_solves_instances_of_its_size_only(tmp_path):
    config = small_config(ptrnet_tsp, sizes=(5, 5))
    config.model = {"kind": "seq2seq", "init_limit": 0.0, "attends": True, "hidden": 8, "width": 8}
    config.evaluation.sizes = (5,)
    task = tasks.build(config, str(tmp_path))
    lines = [f"{i} {i} {i * i}" for i in range(1, 5)]
    header = ["NAME: four", "TYPE: TSP", "DIMENSION: 4", "EDGE_WEIGHT_TYPE: EUC_2D"]
    content = "\n".join([*header, "NODE_COORD_SECTION", *lines, "EOF"]).encode()
    with pytest.raises(UserError, match="four has 4 cities: .* training instances, 5"):
        task.solve_instance(UNUSED_STATE, content)
