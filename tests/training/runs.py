"""Starting, stopping and comparing runs of the toy task."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import jax
import numpy as np

from tests import toy
from training import metric_writer
from training.checkpoints import Checkpoints
from training.loop import fit

ROOT = Path(__file__).parents[2]
TIMED = {"seconds", "items_per_second", "peak_fraction"}


def small(**changes):
    """The toy's config with `train__steps=5` and the like."""
    config = toy.get_config()
    for key, value in changes.items():
        section, name = key.split("__")
        config[section][name] = value
    return config


def train(config, workdir):
    """A run in this process."""
    return fit(toy.build(config, workdir), config, str(workdir))


def start(workdir, *flags, devices=1):
    """A run in its own process, by the command line."""
    env = os.environ | {
        "JAX_PLATFORMS": "cpu",
        "XLA_FLAGS": f"--xla_force_host_platform_device_count={devices}",
    }
    command = [sys.executable, "train.py", "--config=tests/toy.py", f"--workdir={workdir}", *flags]
    pipe = subprocess.PIPE
    return subprocess.Popen(command, cwd=ROOT, env=env, text=True, stdout=pipe, stderr=pipe)


def wait_for(condition, process, seconds=60):
    """Returns as soon as the condition holds or the process has ended."""
    end = time.monotonic() + seconds
    while process.poll() is None and not condition():
        assert time.monotonic() < end, "the run does not get there"
        time.sleep(0.002)


def checkpoints_of(workdir, config):
    return Checkpoints.of(str(workdir), config.train)


def restore(workdir, config, which="latest"):
    """What evaluation would restore, on one device."""
    abstract = jax.eval_shape(toy.build(config, workdir).init, jax.random.key(0))
    one = jax.sharding.SingleDeviceSharding(jax.devices()[0])
    abstract = jax.tree.map(
        lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=one), abstract
    )
    checkpoints = checkpoints_of(workdir, config)
    try:
        return checkpoints.restore(abstract, which)
    finally:
        checkpoints.close()


def record(workdir):
    """The lines of metrics.jsonl without what depends on the clock."""
    return [
        {k: v for k, v in line.items() if k not in TIMED}
        for line in metric_writer.read(str(workdir))
    ]


def measures(workdir):
    return json.loads((Path(workdir) / "summary.json").read_text())["metrics"]


def assert_equal(tree, other):
    """Bitwise."""
    for a, b in zip(jax.tree.leaves(tree), jax.tree.leaves(other), strict=True):
        np.testing.assert_array_equal(np.asarray(a), np.asarray(b))
