"""Trains smoke variants of configs on meshes of several shapes.

    python -m tests.smoke_training --shapes 1,1,1 2,2,2 --configs transformer_nmt ntm_copy

Prints a JSON object: losses, dev metrics and the fraction of the parameters per device, by config
and shape.
"""

import argparse
import contextlib
import importlib
import json
import math
import tempfile
from pathlib import Path

import jax
import numpy as np

import tasks
from tests.commands import fast_compilation, write_pronunciations
from training import mesh
from training.step import jit_train_step

AXES = ("data", "fsdp", "tensor")
BATCH_SIZE = 8  # divisible by the number of devices


def smoke_config(name, directory):
    """Load a smoke variant, with a batch size that can be sharded, and generated data."""
    config = importlib.import_module(f"configs.{name}").get_config("smoke")
    if "batch" in config:
        config.batch = BATCH_SIZE
    if config.get("data", {}).get("corpus") == "cmudict":
        config.data.dir = str(write_pronunciations(directory))
    if "ppo" in config:  # otherwise the loss is close to zero, and its relative error large
        config.ppo.value_weight *= 100
    return config


def train(task, initial_state, key, shape, steps, evaluate):
    """Train on a mesh of this shape, over as many devices as it needs."""
    devices = jax.devices()[: math.prod(shape)]
    device_mesh = mesh.make_mesh(devices, **dict(zip(AXES, shape, strict=True)))
    abstract = mesh.abstract_state(initial_state, device_mesh)
    size = sum(x.size * x.dtype.itemsize for x in jax.tree.leaves(abstract.params))
    step = jit_train_step(task, abstract, device_mesh)
    state = jax.device_put(initial_state, jax.tree.map(lambda x: x.sharding, abstract))
    key, losses = mesh.replicate(key, device_mesh), []
    with jax.set_mesh(device_mesh), contextlib.closing(task.batches("train", 0)) as batches:
        for n in range(steps):
            batch = mesh.shard_batch(next(batches), device_mesh)
            state, metrics = step(state, batch, key, np.int32(n))
            losses.append(float(metrics["loss"]))
    return {
        "losses": losses,
        "metrics": task.evaluate(state, "dev") if evaluate else {},
        "fraction": mesh.bytes_per_device(abstract.params) / size,
    }


def main():
    parser = argparse.ArgumentParser(prog="python -m tests.smoke_training")
    parser.add_argument("--shapes", nargs="+", required=True, help="such as 2,2,2")
    parser.add_argument("--configs", nargs="+", required=True)
    parser.add_argument("--steps", type=int, default=4)
    parser.add_argument("--evaluate", action="store_true")
    parser.add_argument("--cpu_devices", type=int, default=1)
    arguments = parser.parse_args()
    mesh.set_cpu_device_count(arguments.cpu_devices)
    init_key, key = jax.random.split(jax.random.key(0))
    results = {}
    for name in arguments.configs:
        with tempfile.TemporaryDirectory() as directory, fast_compilation():
            config = smoke_config(name, Path(directory))
            config.train.steps = max(arguments.steps, config.train.steps)
            task = tasks.build(config, directory)
            state = jax.device_get(jax.jit(task.init)(init_key))
            results[name] = {}
            for text in arguments.shapes:
                shape = tuple(map(int, text.split(",")))
                results[name][text] = train(
                    task, state, key, shape, arguments.steps, arguments.evaluate
                )
    print(json.dumps(results))


if __name__ == "__main__":
    main()
