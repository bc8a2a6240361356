"""Behavior shared by all pointer network tasks: fitting, padding, labels and config errors."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import tasks
from configs import ptrnet_delaunay, ptrnet_hull, ptrnet_hull_gpu, ptrnet_tsp
from tasks.pointing.instances import Instances
from tests.commands import fast_compilation
from tests.tasks.pointing.small import padded_solutions, small_config
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
            "must be 'held_karp' or 'local_search', not 'held_carp'. Did you mean 'held_karp'",
        ),
    ],
)
def test_invalid_data_section_is_rejected(data, message, tmp_path):
    config = ptrnet_tsp.get_config("smoke")
    config.data = config.data.to_dict() | data
    with pytest.raises(UserError, match=message):
        tasks.build(config, str(tmp_path))
