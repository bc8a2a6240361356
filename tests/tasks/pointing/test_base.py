"""Behavior shared by all pointer network tasks: fitting, padding, labels and config errors."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import tasks
from configs import (
    attention_model_tsp20,
    ptrnet_delaunay,
    ptrnet_hull,
    ptrnet_hull_gpu,
    ptrnet_tsp,
    seq2seq_hull,
)
from tasks.pointing.instances import Instances
from tests.commands import fast_compilation
from tests.tasks.pointing.small import UNUSED_STATE, padded_solutions, small_config
from training.errors import UserError

POINTS = np.random.default_rng(1).random((8, 5, 2)).astype(np.float32)


@pytest.fixture(autouse=True, scope="module")
def _fast_compilation():
    with fast_compilation():
        yield


@pytest.mark.parametrize(
    ("module", "steps"),
    [
        (ptrnet_tsp, 150),
        (ptrnet_hull, 250),
        pytest.param(ptrnet_delaunay, 600, marks=pytest.mark.slow),
    ],
)
def test_model_fits_a_batch(module, steps, tmp_path):
    config = small_config(module, sizes=(5, 5))
    task = tasks.build(config, str(tmp_path))
    choices = padded_solutions(task, POINTS, 5, task.problem.length)
    instances = Instances(jnp.asarray(POINTS), jnp.int32(5), jnp.asarray(choices))
    task.labeled_instances = lambda batch, key: instances
    key, batch = jax.random.key(0), {"index": np.arange(config.batch)}
    state = jax.jit(task.init)(key)
    step = jax.jit(task.train_step)
    state, first = step(state, batch, key)
    for _ in range(steps):
        state, last = step(state, batch, key)
    assert last["loss"] < first["loss"] / 20 and last["exact_match"] == 1.0


@pytest.mark.parametrize("module", [ptrnet_tsp, ptrnet_hull])
def test_loss_and_gradients_do_not_depend_on_padding(module, tmp_path):
    config = small_config(module, sizes=(5, 9))
    if "instances" in config.data.labels:
        config.data.labels.instances = 25_600  # minimum for five sizes; none is generated here
    task = tasks.build(config, str(tmp_path))
    longest = max(map(len, task.solve(POINTS))) + task.problem.has_end_token

    def loss_and_gradients(params, size, length):
        choices = padded_solutions(task, POINTS, size, length)
        points = np.pad(POINTS, ((0, 0), (0, size - 5), (0, 0)))
        instances = Instances(jnp.asarray(points), jnp.int32(5), jnp.asarray(choices))
        task.labeled_instances = lambda batch, key: instances
        loss = lambda params: task.loss(params, None, None)[0]
        return jax.jit(jax.value_and_grad(loss))(params)

    params = jax.jit(task.init_params)(jax.random.key(0))
    short = loss_and_gradients(params, 5, longest)
    long = loss_and_gradients(params, 9, task.problem.length)
    jax.tree.map(lambda x, y: np.testing.assert_allclose(x, y, rtol=1e-4, atol=1e-4), short, long)


@pytest.mark.parametrize("module", [ptrnet_hull_gpu, ptrnet_delaunay, ptrnet_tsp])
def test_device_labels_equal_host_labels(module, tmp_path):
    config = module.get_config("smoke")
    config.data.sizes = (4, 7)
    task = tasks.build(config, str(tmp_path))
    sample = jax.jit(lambda key: task.labeled_instances({"index": jnp.arange(20)}, key))
    batches = [sample(jax.random.key(n)) for n in range(4)]
    assert len({int(batch.num_points) for batch in batches}) > 1
    for points, num_points, choices in batches:
        expected = task.solve(np.asarray(points)[:, :num_points])
        for sequence, solution in zip(np.asarray(choices), expected, strict=True):
            np.testing.assert_array_equal(sequence[sequence < points.shape[1]], solution)


def test_unwritable_label_directory_is_reported_before_labeling(tmp_path):
    config = small_config(ptrnet_hull)
    config.data.labels.dir = "/proc/x"
    task = tasks.build(config, str(tmp_path))
    with pytest.raises(UserError, match="Cannot write to /proc/x"):
        task.batches("train", 0)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ({"sizes": (5, 13)}, "'held_karp' supports up to 12 points, not 13: use 'local_search'"),
        ({"sizes": (2, 5)}, "sizes of a Tour must satisfy 3 <= low <= high, not low=2 and high=5"),
        ({"sizes": (5, 7, 9)}, "config section 'data'"),
        (
            {"labels": {"solver": "local_search"}},
            "solver='local_search' requires the keys 'instances', 'dir'",
        ),
        (
            {"labels": {"solver": "held_karp", "instances": 9}},
            "solver='held_karp' has no options: remove instances",
        ),
        (
            {"labels": {"solver": "held_carp"}},
            "must be 'held_karp' or 'local_search' or 'greedy_edges' or 'nearest_neighbor' or "
            "'christofides', not 'held_carp'. Did you mean 'held_karp'",
        ),
    ],
)
def test_invalid_data_section_is_rejected(data, message, tmp_path):
    config = ptrnet_tsp.get_config("smoke")
    config.data = config.data.to_dict() | data
    with pytest.raises(UserError, match=message):
        tasks.build(config, str(tmp_path))


def test_batches_of_evaluation_are_smaller_for_more_points_and_samples(tmp_path):
    """Memory is bounded by `evaluation.batch` sequences of the largest size in training."""
    config = small_config(ptrnet_tsp, sizes=(5, 10))
    config.evaluation.batch = 60
    shapes = []

    def decode(params, points, start, constrained):
        shapes.append((len(points), int(start)))
        return np.zeros(points.shape[:2], int)

    for n, search, batch in (
        (5, {"kind": "beam", "width": 1}, 60),
        (100, {"kind": "beam", "width": 1}, 6),
        (10, {"kind": "sampling", "samples": 90, "batch": 30, "temperature": 1.0}, 2),
        (20, {"kind": "sampling", "samples": 900, "batch": 300, "temperature": 1.0}, 1),
    ):
        config.search = search
        task = tasks.build(config, str(tmp_path))
        task.decode = decode
        params = {"x": jnp.zeros(())}
        predicted = task.predict(UNUSED_STATE._replace(params=params), np.zeros((70, n, 2)))
        assert predicted.shape == (70, n)
        assert shapes == [(batch, start) for start in range(0, 70, batch)]
        shapes.clear()


def test_parameters_are_initialized_within_the_limit(tmp_path):
    """All parameters are from U(-0.08, 0.08), also the bias of the forget gates."""
    config = small_config(ptrnet_tsp)
    config.model.init_limit = 0.08
    params = jax.jit(tasks.build(config, str(tmp_path)).init_params)(jax.random.key(0))
    values = np.concatenate([np.ravel(x) for x in jax.tree.leaves(params)])
    assert 0.0799 < np.abs(values).max() < 0.08
    assert abs(values.mean()) < 3 * 0.08 / (3 * len(values)) ** 0.5


@pytest.mark.parametrize(
    ("module", "changes", "name", "value"),
    [
        (attention_model_tsp20, {}, "gain", 1),
        (ptrnet_tsp, {"score": "content"}, "key_strength", 10),
    ],
)
def test_factors_are_not_sampled(module, changes, name, value, tmp_path):
    config = module.get_config("smoke")
    config.model.update(init_limit=0.08, **changes)
    params = jax.jit(tasks.build(config, str(tmp_path)).init_params)(jax.random.key(0))
    leaves = jax.tree.leaves_with_path(params)
    factors = [x for path, x in leaves if name in jax.tree_util.keystr(path)]
    others = [x for path, x in leaves if name not in jax.tree_util.keystr(path)]
    assert factors and all(np.all(x == value) for x in factors)
    assert all(0 < np.abs(x).max() < 0.08 for x in others)


def test_fixed_output_layer_supports_one_size(tmp_path):
    config = seq2seq_hull.get_config("smoke")
    tasks.build(config, str(tmp_path))
    config.evaluation.sizes = (5, 50)
    with pytest.raises(UserError, match="supports one number of points only"):
        tasks.build(config, str(tmp_path))
