"""Training on several devices equals training on one device, for every task."""

import importlib
import json
import math

import jax
import numpy as np
import pytest
from flax import nnx
from jax.sharding import AbstractMesh, NamedSharding

import tasks
from tests import commands, smoke_training
from training import mesh

# Data that must be downloaded.
NOT_GENERATED = {
    *("multi30k", "tfds", "text_files", "text_globs", "folder", "flickr8k", "coco"),
    *("omniglot_zips", "omniglot_small1", "image_folders", "cifar10"),
}


def find_configs():
    """Return one config for each task and architecture, if its data can be generated."""
    configs = {}
    for path in sorted((commands.ROOT / "configs").glob("*.py")):
        config = importlib.import_module(f"configs.{path.stem}").get_config("smoke")
        data = config.get("data", {})
        if not NOT_GENERATED & {data.get("corpus"), data.get("source")}:
            configs.setdefault((config.task, config.get("architecture")), path.stem)
    return configs


CONFIGS = find_configs()


def test_each_task_package_has_a_config():
    packages = {task.split(".")[0] for task, _ in CONFIGS}
    assert packages >= {
        "captioning",
        "few_shot",
        "image_generation",
        "memory",
        "meta_rl",
        "pointing",
        "translation",
    }


@pytest.mark.parametrize("config", sorted(CONFIGS.values()))
def test_parameters_have_logical_axes_that_shard_the_model(config, tmp_path):
    task = tasks.build(smoke_training.smoke_config(config, tmp_path), str(tmp_path))
    params = jax.eval_shape(task.init, jax.random.key(0)).params
    device_mesh = AbstractMesh((2, 2, 2), smoke_training.AXES)
    size = shard_size = 0
    for leaf in jax.tree.leaves(params, is_leaf=lambda x: isinstance(x, nnx.Variable)):
        axes, shape = leaf.get_metadata()["axes"], leaf.get_value().shape
        assert len(axes) == len(shape)
        assert set(axes) <= {*mesh.RULES, None}
        spec = mesh.partition_spec(shape, axes, device_mesh)
        size += math.prod(shape)
        shard_size += math.prod(NamedSharding(device_mesh, spec).shard_shape(shape))
    assert shard_size < 0.6 * size


def test_transformer_losses_on_a_mesh_equal_one_device():
    command = "-m tests.smoke_training --shapes 1,1,1 2,2,2 --configs transformer_nmt"
    [results] = commands.run_with_devices(8, *command.split()).values()
    expected, sharded = results["1,1,1"], results["2,2,2"]
    assert len(set(expected["losses"])) == 4
    np.testing.assert_allclose(sharded["losses"], expected["losses"], rtol=1e-5)
    assert expected["fraction"] == 1
    assert sharded["fraction"] < 0.6


@pytest.mark.skipif(mesh.available_cpus() < 2, reason="one core is one device")
def test_losses_and_metrics_on_two_cpu_devices_equal_one_device():
    """The model is recurrent; its time loop runs within each shard of the batch."""
    command = "-m tests.smoke_training --shapes 1,1,1 2,1,1 --configs seq2seq_nmt --evaluate"
    done = commands.run_in_subprocess(*command.split(), "--cpu_devices=2")
    assert done.code == 0, done.errors
    [results] = json.loads(done.output.splitlines()[-1]).values()
    expected, sharded = results["1,1,1"], results["2,1,1"]
    assert len(set(expected["losses"])) == 4
    np.testing.assert_allclose(sharded["losses"], expected["losses"], rtol=1e-5)
    assert len(expected["metrics"]) >= 4
    assert sharded["metrics"] == pytest.approx(expected["metrics"], rel=1e-5)


@pytest.fixture(scope="module")
def smoke_results():
    command = "-m tests.smoke_training --steps 8 --shapes 1,1,1 8,1,1 1,8,1 1,1,8 --configs"
    return commands.run_with_devices(8, *command.split(), *CONFIGS.values())


@pytest.mark.slow
@pytest.mark.parametrize("shape", ["8,1,1", "1,8,1", "1,1,8"])
@pytest.mark.parametrize("config", sorted(CONFIGS.values()))
def test_losses_on_eight_devices_equal_one_device(config, shape, smoke_results):
    """Only eight steps are compared, because later steps amplify rounding errors."""
    expected, sharded = smoke_results[config]["1,1,1"], smoke_results[config][shape]
    assert len(set(expected["losses"])) == 8
    np.testing.assert_allclose(sharded["losses"], expected["losses"], rtol=1e-5)
    if config == "transformer_nmt":  # the small widths of other models may not be divisible by 8
        assert sharded["fraction"] == 1 if shape == "8,1,1" else sharded["fraction"] < 0.7
