"""Every task trains on eight devices as on one, however they are laid out."""

import importlib
import math

import jax
import numpy as np
import pytest
from flax import nnx
from jax.sharding import AbstractMesh, NamedSharding

import tasks
from tests import commands, losses
from training import mesh, metric_writer, run

LAYOUTS = [(8, 1, 1), (1, 8, 1), (1, 1, 8)]
CUBE = AbstractMesh((2, 2, 2), ("data", "fsdp", "tensor"))
# What must be had from elsewhere first.
DOWNLOADED = {"multi30k", "tfds", "folder"}


def one_of_each():
    """A config for each task and architecture, of those that make their own data."""
    found = {}
    for path in sorted((commands.ROOT / "configs").glob("*.py")):
        config = importlib.import_module(f"configs.{path.stem}").get_config("smoke")
        data = config.get("data", {})
        if not DOWNLOADED & {data.get("corpus"), data.get("source")}:
            found.setdefault((config.task, config.get("architecture")), path.stem)
    return sorted(found.values())


CONFIGS = one_of_each()


def losses_on(devices, layout, configs):
    return commands.run_with_devices(devices, "-m", "tests.losses", *map(str, layout), *configs)


@pytest.fixture(scope="module")
def one_device():
    return losses_on(1, (1, 1, 1), CONFIGS)


@pytest.fixture(scope="module", params=LAYOUTS, ids=str)
def eight_devices(request):
    return request.param, losses_on(8, request.param, CONFIGS)


def test_tasks_are_found():
    found = {
        importlib.import_module(f"configs.{name}").get_config("smoke").task for name in CONFIGS
    }
    assert {"translation", "memory"} <= found


@pytest.mark.parametrize("config", CONFIGS)
def test_every_axis_of_every_parameter_has_a_name_or_none(config, tmp_path):
    """Of the rules, or one that is never split; and enough have one for every model to be split."""
    task = tasks.build(losses.smoke(config, tmp_path), str(tmp_path))
    params = jax.eval_shape(task.init, jax.random.key(0)).params
    held = whole = 0
    for leaf in jax.tree.leaves(params, is_leaf=lambda x: isinstance(x, nnx.Variable)):
        axes, shape = leaf.get_metadata()["axes"], leaf.get_value().shape
        assert len(axes) == len(shape) and set(axes) <= {*mesh.RULES, None}
        whole += math.prod(shape)
        split = NamedSharding(CUBE, mesh.partition(shape, axes, CUBE))
        held += math.prod(split.shard_shape(shape))
    assert held < 0.6 * whole


@pytest.mark.slow
@pytest.mark.parametrize("config", CONFIGS)
def test_eight_devices_give_the_losses_of_one(config, one_device, eight_devices):
    layout, found = eight_devices
    (ours, share), (theirs, _) = found[config], one_device[config]
    assert len(ours) == 20 and len(set(theirs)) > 10
    np.testing.assert_allclose(ours, theirs, rtol=1e-5)
    if config == "transformer_nmt":  # widths of others may be no multiples of eight when so small
        assert share == 1 if layout[0] == 8 else share < 0.7


def test_the_transformer_by_the_command_line(smoke_run, tmp_path, monkeypatch):
    monkeypatch.setenv("XLA_FLAGS", "--xla_force_host_platform_device_count=8")
    layout = [f"--config.mesh.{axis}=2" for axis in ("data", "fsdp", "tensor")]
    done = commands.run_in_subprocess(
        "train.py", commands.NUMBERS, f"--workdir={tmp_path}", *layout
    )
    assert done.code == 0, done.errors
    ours, theirs = (
        [line["loss"] for line in metric_writer.read(workdir) if "loss" in line]
        for workdir in (str(tmp_path), str(smoke_run))
    )
    assert len(ours) == 4
    np.testing.assert_allclose(ours, theirs, rtol=1e-5)


@pytest.mark.skipif(mesh.available_cpus() < 2, reason="one core is one device")
def test_cores_of_a_cpu_as_devices(tmp_path):
    """Training and evaluation by two of them equal those by one, rows split and all."""
    found = []
    for count in (1, 2):
        workdir = str(tmp_path / str(count))
        command = ["--config=configs/seq2seq_nmt.py:smoke", f"--config.cpu_devices={count}"]
        done = commands.run_in_subprocess("train.py", *command, f"--workdir={workdir}")
        assert done.code == 0, done.errors
        assert f"data {count} x" in done.output
        found.append(
            (
                [line["loss"] for line in metric_writer.read(workdir) if "loss" in line],
                run.read_summary(workdir)["metrics"],
            )
        )
    (one, measured_by_one), (two, measured_by_two) = found
    np.testing.assert_allclose(two, one, rtol=1e-5)
    assert measured_by_two == pytest.approx(measured_by_one, rel=1e-5)
