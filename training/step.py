"""A task's initialization and training step, jitted over the devices of a mesh."""

from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec


def jit_train_step(task: Any, abstract: Any, mesh: Mesh) -> Any:
    """Jit `train_step(state, batch, key, step) -> (state, metrics)`; the state is donated.

    Args:
        task: see `tasks.base.Task`.
        abstract: shapes, dtypes and shardings of the state.
        mesh: device mesh; the metrics are replicated over it.
    """

    def train_step(state, batch, key, step):
        return task.train_step(state, batch, jax.random.fold_in(key, step))

    shardings = jax.tree.map(lambda x: x.sharding, abstract)
    replicated = NamedSharding(mesh, PartitionSpec())
    return jax.jit(train_step, out_shardings=(shardings, replicated), donate_argnums=0)


def init_state(task: Any, abstract: Any, key: Any) -> Any:
    """Initialize the state directly on the devices that hold its shards.

    Args:
        task: see `tasks.base.Task`.
        abstract: shapes, dtypes and shardings of the state.
        key: PRNG key of the initialization.
    """
    shardings = jax.tree.map(lambda x: x.sharding, abstract)
    return jax.jit(task.init, out_shardings=shardings)(key)


def trace_train_step(train_step: Any, state: Any, batch: Any, key: Any, mesh: Mesh) -> Any:
    """Trace a jitted training step for arguments of these shapes; the arrays may be abstract."""
    with jax.set_mesh(mesh):  # so that a task can query how its batch is sharded
        return train_step.trace(state, batch, key, np.int32(0))
