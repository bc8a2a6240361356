"""Tests of meshes and shardings."""

import base64
import json
import os
import subprocess
import sys

import jax
import numpy as np
import pytest
from jax.sharding import NamedSharding, PartitionSpec, SingleDeviceSharding

from tests import toy
from tests.commands import run_with_devices, run_without_xla_flags
from tests.training import mesh_shapes
from tests.training.runs import ROOT, logged_metrics, toy_config
from training import mesh
from training.errors import UserError


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (AssertionError(), "no GPU is visible"),
        (
            RuntimeError("Unable to initialize backend 'tpu': ... (set JAX_PLATFORMS='' to ...)"),
            "Unable to initialize backend 'tpu': ...",
        ),
    ],
)
def test_missing_hardware_is_an_error(error, reason, monkeypatch):
    def devices():
        raise error

    monkeypatch.setenv("JAX_PLATFORMS", "cuda")
    monkeypatch.setattr(jax, "devices", devices)
    with pytest.raises(UserError) as raised:
        mesh.initialize_devices()
    assert str(raised.value) == (
        f"JAX cannot use the hardware of JAX_PLATFORMS='cuda' ({reason}): install JAX for that "
        "hardware, or unset the variable."
    )


@pytest.mark.slow
@pytest.mark.parametrize("platform", ["cuda", "tpu", "nowhere"])
def test_missing_hardware_ends_training_with_one_line(platform, tmp_path):
    command = ["train.py", "--config=tests/toy.py", f"--workdir={tmp_path}"]
    env = os.environ | {"JAX_PLATFORMS": platform}
    done = subprocess.run(
        [sys.executable, *command], cwd=ROOT, env=env, capture_output=True, text=True
    )
    if done.returncode == 0:
        pytest.skip("this machine has the hardware")
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (2, "", 1)
    assert done.stderr.startswith(
        f"error: JAX cannot use the hardware of JAX_PLATFORMS='{platform}'"
    )


@pytest.fixture(scope="module")
def eight_devices(tmp_path_factory):
    """Run directory of `mesh_shapes.train_toy` on eight devices, and the losses of each shape."""
    workdir = tmp_path_factory.mktemp("eight_devices") / "run"
    return workdir, run_with_devices(8, "-m", "tests.training.mesh_shapes", str(workdir))


def test_mesh_shape_does_not_change_the_losses(eight_devices):
    expected, _ = mesh_shapes.losses((1, 1, 1))
    for (losses, shards), shape in zip(eight_devices[1], mesh_shapes.SHAPES, strict=True):
        np.testing.assert_allclose(losses, expected, rtol=1e-5)
        assert shards == shape[1] * shape[2]


def test_training_on_a_mesh_equals_training_on_one_device(eight_devices, tmp_path):
    workdir, _ = eight_devices
    mesh_shapes.train_toy(tmp_path, (1, 1, 1))
    for line, expected in zip(logged_metrics(workdir), logged_metrics(tmp_path), strict=True):
        assert line.keys() == expected.keys()
        np.testing.assert_allclose(list(line.values()), list(expected.values()), rtol=1e-5)
    saved = saved_shardings(workdir / "checkpoints" / "10" / "state")
    for key in ("params.w2.value", "opt_state.1.0.mu.w2.value"):
        assert saved[key]["partition_spec"] == ["tensor", "fsdp"]
        assert tuple(saved[key]["shape"]) == mesh_shapes.SHAPES[-1]


def saved_shardings(folder):
    """Read the shardings of a checkpoint's arrays by name."""
    text = json.loads((folder / "_sharding").read_text())
    return {base64.b64decode(key).decode(): json.loads(value) for key, value in text.items()}


def abstract_mesh(data, fsdp, tensor):
    return jax.sharding.AbstractMesh((data, fsdp, tensor), mesh_shapes.AXES)


@pytest.mark.parametrize(
    "shape, axes, expected",
    [
        ((10, 6), ("vocab", "embed"), ("tensor", "fsdp")),
        ((6, 4, 8), ("embed", "heads", None), ("fsdp", "tensor", None)),
        ((7, 6), ("vocab", "embed"), (None, "fsdp")),  # 7 is not divisible by 2
        ((4, 4), ("embed", "embed"), ("fsdp", None)),  # a mesh axis is used once
        ((4,), (), ()),
    ],
)
def test_partition_spec_follows_the_rules(shape, axes, expected):
    spec = mesh.partition_spec(shape, axes, abstract_mesh(2, 2, 2))
    assert spec == PartitionSpec(*expected)


def test_optimizer_moments_are_sharded_like_their_parameters():
    abstract = jax.eval_shape(toy.build(toy_config(), "").init, jax.random.key(0))
    tree = mesh.shardings(abstract, mesh.make_mesh(data=-1, fsdp=1, tensor=1))
    assert jax.tree.structure(tree) == jax.tree.structure(abstract)
    specs = [
        [x.spec for x in jax.tree.leaves(part)]
        for part in (tree.params, tree.opt_state[1][0].mu, tree.opt_state[1][0].nu)
    ]
    assert specs[0] == specs[1] == specs[2]
    assert PartitionSpec("tensor", "fsdp") in specs[0]


@pytest.mark.parametrize("shape", [(3, 5, 1), (-1, -1, 1), (0, 1, 1), (-1, 7, 1)])
def test_mesh_shape_that_does_not_fit_is_rejected(shape):
    with pytest.raises(UserError, match=f"data={shape[0]} x fsdp={shape[1]}.*does not fit"):
        mesh.make_mesh(**dict(zip(mesh_shapes.AXES, shape, strict=True)))


@pytest.mark.parametrize(
    "shape, memory, expected",
    [
        ((-1, -1, 1), 32.0, (-1, 1, 1)),
        ((-1, -1, 1), 31.0, (-1, 2, 1)),
        ((-1, -1, 1), 8.0, (-1, 4, 1)),
        ((-1, -1, 1), 1.0, (-1, 8, 1)),
        ((-1, -1, 2), 8.0, (-1, 2, 2)),
        ((-1, 1, 1), 1.0, (-1, 1, 1)),
        ((2, -1, 1), 1.0, (2, -1, 1)),
    ],
)
def test_state_larger_than_half_a_device_is_sharded(shape, memory, expected):
    """The state has 16 bytes, and there are 8 devices."""
    sizes, expected = (dict(zip(mesh_shapes.AXES, x, strict=True)) for x in (shape, expected))
    assert mesh.resolve_mesh_shape(sizes, np.zeros(4, np.float32), 8, memory) == expected


def test_bytes_per_device_is_the_size_of_one_shard():
    x = jax.ShapeDtypeStruct((4, 6), np.float32, sharding=SingleDeviceSharding(jax.devices()[0]))
    sharding = NamedSharding(abstract_mesh(2, 2, 2), PartitionSpec("tensor", ("data", "fsdp")))
    y = jax.ShapeDtypeStruct((4, 8), np.int16, sharding=sharding)
    assert mesh.bytes_per_device({"x": x, "y": y}) == 4 * 6 * 4 + (4 // 2) * (8 // 4) * 2


@pytest.mark.skipif(not hasattr(os, "sched_getaffinity"), reason="no CPU affinity")
def test_cpu_device_count_is_limited_by_the_cores():
    """Several devices on one core would wait for each other."""
    command = """
import os
os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
import jax
from training import mesh
mesh.set_cpu_device_count(2)
print(jax.device_count())
"""
    assert run_without_xla_flags(command).split() == ["1"]
