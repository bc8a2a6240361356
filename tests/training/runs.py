"""Helpers that start, stop and compare runs of the toy task."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import jax
import numpy as np

from tests import toy
from tests.commands import ROOT, xla_flags
from training import metric_writer, run
from training.checkpoints import Checkpoints
from training.loop import fit

TIMINGS = {"seconds", "items_per_second", "flops_utilization"}


def toy_config(**changes):
    """Return the toy config with changes such as `train__steps=5`."""
    config = toy.get_config()
    for key, value in changes.items():
        section, name = key.split("__")
        config[section][name] = value
    return config


def start_run(config, workdir):
    """Create a run directory with the first file that training writes."""
    run.open_workdir(config, str(workdir))
    (workdir / "metrics.jsonl").touch()


def train(config, workdir):
    """Train in this process."""
    return fit(toy.build(config, workdir), config, str(workdir))


def start_training(workdir, *flags, devices=1):
    """Start `train.py` in a new process that compiles its programs itself."""
    env = os.environ | {
        "JAX_ENABLE_COMPILATION_CACHE": "0",
        "JAX_DISABLE_MOST_OPTIMIZATIONS": "1",
        "JAX_PLATFORMS": "cpu",
        "XLA_FLAGS": xla_flags(devices),
    }
    command = [sys.executable, "train.py", "--config=tests/toy.py", f"--workdir={workdir}", *flags]
    pipe = subprocess.PIPE
    return subprocess.Popen(command, cwd=ROOT, env=env, text=True, stdout=pipe, stderr=pipe)


def wait_for(condition, process, seconds=60):
    """Wait until the condition holds or the process has ended."""
    end = time.monotonic() + seconds
    while process.poll() is None and not condition():
        assert time.monotonic() < end, f"condition not met within {seconds} s"
        time.sleep(0.002)


def open_checkpoints(workdir, config):
    return Checkpoints.from_config(str(workdir), config.train)


def restore(workdir, config, which="latest"):
    """Restore a checkpoint on one device."""
    abstract = jax.eval_shape(toy.build(config, workdir).init, jax.random.key(0))
    sharding = jax.sharding.SingleDeviceSharding(jax.devices()[0])
    abstract = jax.tree.map(
        lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=sharding), abstract
    )
    checkpoints = open_checkpoints(workdir, config)
    try:
        return checkpoints.restore(abstract, which)
    finally:
        checkpoints.close()


def logged_metrics(workdir):
    """Return the lines of metrics.jsonl without timings."""
    return [
        {k: v for k, v in line.items() if k not in TIMINGS}
        for line in metric_writer.read(str(workdir))
    ]


def final_metrics(workdir):
    """Return the metrics of summary.json."""
    return json.loads((Path(workdir) / "summary.json").read_text())["metrics"]


def assert_trees_equal(actual, expected):
    """Assert that all leaves are bitwise equal."""
    for a, b in zip(jax.tree.leaves(actual), jax.tree.leaves(expected), strict=True):
        np.testing.assert_array_equal(np.asarray(a), np.asarray(b))
