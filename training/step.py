"""The update of a task as one program for all devices of a mesh."""

from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec


def make_update(task: Any, abstract: Any, mesh: Mesh) -> Any:
    """`update(state, batch, key, step) -> state, metrics`, jitted; the old state is overwritten.

    Args:
        task: see `tasks.base.Task`.
        abstract: the state's shapes, dtypes and shardings.
        mesh: where it runs; every device has all metrics.
    """

    def update(state, batch, key, step):
        return task.train_step(state, batch, jax.random.fold_in(key, step))

    shardings = jax.tree.map(lambda x: x.sharding, abstract)
    everywhere = NamedSharding(mesh, PartitionSpec())
    return jax.jit(update, out_shardings=(shardings, everywhere), donate_argnums=0)


def init_state(task: Any, abstract: Any, key: Any) -> Any:
    """The state at step 0, each part made on the devices that hold it.

    Args:
        task: see `tasks.base.Task`.
        abstract: the state's shapes, dtypes and shardings.
        key: for what is drawn.
    """
    shardings = jax.tree.map(lambda x: x.sharding, abstract)
    return jax.jit(task.init, out_shardings=shardings)(key)


def trace(update: Any, state: Any, batch: Any, key: Any, mesh: Mesh) -> Any:
    """The update traced for arrays, or mere shapes, like these."""
    with jax.set_mesh(mesh):  # so that a task may ask how its batch is split
        return update.trace(state, batch, key, np.int32(0))
