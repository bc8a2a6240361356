"""Trains the toy task on eight devices with several mesh shapes, and prints the losses.

    python -m tests.training.mesh_shapes WORKDIR

The last shape is trained by the complete loop, in WORKDIR.
"""

import json
import sys

import jax
import numpy as np

from tests import toy
from tests.commands import fast_compilation
from tests.training.runs import toy_config, train
from training import mesh
from training.step import init_state, jit_train_step

AXES = ("data", "fsdp", "tensor")
SHAPES = [(8, 1, 1), (1, 8, 1), (1, 1, 8), (2, 2, 2)]
CHANGES = {"train__steps": 10, "train__average": 1}


def losses(shape):
    """Return the losses of the training steps, and the largest number of shards of a parameter."""
    task = toy.build(toy_config(**CHANGES), "")
    device_mesh = mesh.make_mesh(**dict(zip(AXES, shape, strict=True)))
    key = jax.random.key(0)
    abstract = mesh.abstract_state(jax.eval_shape(task.init, key), device_mesh)
    state = init_state(task, abstract, key)
    train_step, batches, values = jit_train_step(task, abstract, device_mesh), task.batches, []
    for step, batch in zip(range(CHANGES["train__steps"]), batches("train", 0), strict=False):
        batch = mesh.shard_batch(batch, device_mesh)
        state, metrics = train_step(state, batch, key, np.int32(step))
        values.append(float(metrics["loss"]))
    specs = [x.sharding.spec for x in jax.tree.leaves(state.params)]
    return values, max(np.prod([device_mesh.shape[a] for a in spec if a]) for spec in specs)


def train_toy(workdir, shape):
    """Train the toy task with the complete loop."""
    sizes = {f"mesh__{axis}": size for axis, size in zip(AXES, shape, strict=True)}
    train(toy_config(**CHANGES, **sizes), workdir)


if __name__ == "__main__":
    with fast_compilation():
        results = [losses(shape) for shape in SHAPES]
        train_toy(sys.argv[1], SHAPES[-1])
    print(json.dumps([[values, int(shards)] for values, shards in results]))
