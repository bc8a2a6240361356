"""Meshes: any shape trains alike; parameters really are split."""

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
from tests.training.runs import ROOT, record, small, start
from training import mesh
from training.errors import UserError

FLAGS = ("--config.train.steps=10", "--config.train.average=1")


def finish(process):
    output, errors = process.communicate()
    assert "Finished" in output, errors
    return output


@pytest.fixture(scope="module")
def one_device(tmp_path_factory):
    workdir = tmp_path_factory.mktemp("one")
    finish(start(workdir, *FLAGS))
    return workdir


@pytest.mark.parametrize("sizes", [(8, 1, 1), (1, 8, 1), (1, 1, 8), (2, 2, 2)])
def test_eight_devices_give_the_losses_of_one(one_device, tmp_path, sizes):
    flags = [f"--config.mesh.{axis}={n}" for axis, n in zip(mesh_axes(), sizes, strict=True)]
    finish(start(tmp_path, *FLAGS, *flags, devices=8))
    for one, other in zip(record(one_device), record(tmp_path), strict=True):
        assert one.keys() == other.keys()
        np.testing.assert_allclose(list(other.values()), list(one.values()), rtol=1e-5)
    saved = saved_shardings(tmp_path / "checkpoints" / "10" / "state")
    for name in ("params.w2.value", "opt_state.1.0.mu.w2.value"):
        assert saved[name]["partition_spec"] == ["tensor", "fsdp"]
        assert tuple(saved[name]["shape"]) == sizes


def saved_shardings(folder):
    """How a checkpoint's arrays were laid out when it was saved, by name."""
    text = json.loads((folder / "_sharding").read_text())
    return {base64.b64decode(name).decode(): json.loads(value) for name, value in text.items()}


def mesh_axes():
    return ("data", "fsdp", "tensor")


def fake_mesh(data, fsdp, tensor):
    """A mesh of the right shape, for asking where things would go."""
    return jax.sharding.AbstractMesh((data, fsdp, tensor), mesh_axes())


def test_rules():
    eight = fake_mesh(2, 2, 2)
    assert mesh.partition((10, 6), ("vocab", "embed"), eight) == PartitionSpec("tensor", "fsdp")
    assert mesh.partition((6, 4, 8), ("embed", "heads", None), eight) == PartitionSpec(
        "fsdp", "tensor", None
    )
    assert mesh.partition((7, 6), ("vocab", "embed"), eight) == PartitionSpec(None, "fsdp")
    assert mesh.partition((4, 4), ("embed", "embed"), eight) == PartitionSpec("fsdp", None)
    assert mesh.partition((4,), (), eight) == PartitionSpec()


def test_optimizer_moments_are_split_like_their_parameters():
    abstract = jax.eval_shape(toy.build(small(), "").init, jax.random.key(0))
    tree = mesh.shardings(abstract, mesh.make_mesh(data=-1, fsdp=1, tensor=1))
    assert jax.tree.structure(tree) == jax.tree.structure(abstract)
    specs = [
        [x.spec for x in jax.tree.leaves(part)]
        for part in (tree.params, tree.opt_state[1][0].mu, tree.opt_state[1][0].nu)
    ]
    assert specs[0] == specs[1] == specs[2]
    assert PartitionSpec("tensor", "fsdp") in specs[0]


@pytest.mark.parametrize("sizes", [(3, 5, 1), (-1, -1, 1), (0, 1, 1), (-1, 7, 1)])
def test_a_mesh_that_does_not_fit_is_a_sentence(sizes):
    with pytest.raises(UserError, match=f"data={sizes[0]} x fsdp={sizes[1]}.*does not fit"):
        mesh.make_mesh(**dict(zip(mesh_axes(), sizes, strict=True)))


@pytest.mark.parametrize(
    "sizes, memory, chosen",
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
def test_a_mesh_that_chooses_itself_splits_what_fills_half_a_device(sizes, memory, chosen):
    """A state of 16 bytes on 8 devices."""
    sizes, chosen = (dict(zip(mesh_axes(), x, strict=True)) for x in (sizes, chosen))
    assert mesh.resolve_mesh_shape(sizes, np.zeros(4, np.float32), 8, memory) == chosen


def test_what_a_device_holds():
    x = jax.ShapeDtypeStruct((4, 6), np.float32, sharding=SingleDeviceSharding(jax.devices()[0]))
    eight = fake_mesh(2, 2, 2)
    split = NamedSharding(eight, PartitionSpec("tensor", ("data", "fsdp")))
    y = jax.ShapeDtypeStruct((4, 8), np.int16, sharding=split)
    assert mesh.bytes_per_device({"x": x, "y": y}) == 4 * 6 * 4 + (4 // 2) * (8 // 4) * 2


@pytest.mark.skipif(not hasattr(os, "sched_getaffinity"), reason="no such thing here")
def test_a_core_is_one_device_even_where_two_are_asked_for():
    """Those of one core would wait for each other."""
    command = """
import os
os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
import jax
from training import mesh
mesh.set_cpu_device_count(2)
print(jax.device_count())
"""
    env = {name: value for name, value in os.environ.items() if name != "XLA_FLAGS"}
    done = subprocess.run(
        [sys.executable, "-c", command],
        env=env | {"JAX_PLATFORMS": "cpu"},
        cwd=ROOT,
        text=True,
        capture_output=True,
    )
    assert done.stdout.split() == ["1"], done.stderr
