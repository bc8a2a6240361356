"""Trains the smoke variant of each task a little on a mesh: `python -m tests.losses 8 1 1 FILE...`.

Prints, for each config file: the losses of 20 steps, and which share of the weights a device has.
"""

import contextlib
import importlib
import json
import sys
import tempfile
from pathlib import Path

import jax
import numpy as np

import tasks
from tests.commands import fast_compilation, write_words
from training import mesh
from training.step import init_state, make_update

STEPS = 20
ROWS = 8  # as many as devices, or more


def smoke(name, folder):
    """The config, with enough rows in a batch for every device and 20 steps to learn in."""
    config = importlib.import_module(f"configs.{name}").get_config("smoke")
    for section in (config, config.get("data", {})):
        if "batch" in section:
            section.batch = ROWS
    if config.get("data", {}).get("corpus") == "cmudict":
        config.data.dir = str(write_words(folder))
    if "ppo" in config:  # or the loss passes through zero, a difference of terms like its entropy
        config.ppo.value_weight *= 100
    config.train.steps = STEPS
    return config


def losses(config, sizes, workdir):
    """Of each step; and the share of the weights."""
    task = tasks.build(config, str(workdir))
    layout = mesh.make_mesh(**sizes)
    first, key = jax.random.split(jax.random.key(config.seed))
    state = mesh.abstract(jax.eval_shape(task.init, first), layout)
    update = make_update(task, state, layout)
    weights = sum(x.size * x.dtype.itemsize for x in jax.tree.leaves(state.params))
    share = mesh.bytes_per_device(state.params) / weights
    state = init_state(task, state, first)
    key, found = mesh.replicate(key, layout), []
    with jax.set_mesh(layout), contextlib.closing(task.batches("train", 0)) as batches:
        for step in range(STEPS):
            batch = mesh.shard_batch(next(batches), layout)
            state, metrics = update(state, batch, key, np.int32(step))
            found.append(float(metrics["loss"]))
    return found, share


def main(data, fsdp, tensor, *names):
    sizes = {"data": int(data), "fsdp": int(fsdp), "tensor": int(tensor)}
    found = {}
    for name in names:
        with tempfile.TemporaryDirectory() as folder, fast_compilation():
            config = smoke(name, Path(folder))
            found[name] = losses(config, sizes, folder)
    print(json.dumps(found))


if __name__ == "__main__":
    main(*sys.argv[1:])
