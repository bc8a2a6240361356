"""Batches of which each device has an equal part.

Functions of a batch either see the whole batch, which `jit` divides over the devices, or they run
within `shard_map` and see the part of their device. Random numbers are the same in both cases: they
depend on the index of an example in the whole batch.
"""

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax
from jax.flatten_util import ravel_pytree
from jax.sharding import PartitionSpec
from jaxtyping import Array, Int, Key, PRNGKeyArray

BATCH_AXES = ("data", "fsdp")  # of `training.mesh`: mesh axes over which a batch is sharded
SMALL = 2**18  # elements of an array that is copied for a common all-reduce


def is_on_cpu() -> bool:
    """Return whether the program is for a CPU.

    The platform of the abstract mesh takes precedence, because plans are for other machines.
    """
    device = jax.sharding.get_abstract_mesh().abstract_device
    return (device.platform if device else jax.default_backend()) == "cpu"


def divided_axes() -> tuple[str, ...]:
    """Return the mesh axes over which `jit` divides the batch that the caller sees."""
    mesh = jax.sharding.get_abstract_mesh()
    return tuple(
        axis for axis in BATCH_AXES if mesh.shape.get(axis, 1) > 1 and axis not in mesh.manual_axes
    )


def first_index(count: int) -> int | Int[Array, ""]:
    """Return the index in the whole batch of the first of `count` examples that the caller sees."""
    manual_axes = jax.sharding.get_abstract_mesh().manual_axes
    axes = tuple(axis for axis in BATCH_AXES if axis in manual_axes)
    return lax.axis_index(axes) * count if axes else 0


def example_keys(key: PRNGKeyArray, count: int) -> Key[Array, " B"]:
    """Return a PRNG key for each of the `count` examples that the caller sees."""
    return jax.vmap(partial(jax.random.fold_in, key))(first_index(count) + jnp.arange(count))


def can_sum_over_devices(count: int) -> bool:
    """Return whether `sum_over_devices` is possible and useful for a batch of `count` examples.

    It is possible if every device has all parameters and an equal part of the batch. It is useful
    on CPUs: XLA's collectives for GPUs and TPUs already combine the arrays.
    """
    mesh = jax.sharding.get_abstract_mesh()
    replicated = divided_axes() == ("data",) and mesh.shape.get("tensor", 1) == 1
    return is_on_cpu() and replicated and count % mesh.shape["data"] == 0


def sum_over_devices(function: Callable[..., Any]) -> Callable[..., Any]:
    """Return `function(params, batch, key)`, computed by parts of the batch and summed.

    Each device computes the function of its part, and the results, a tree of float32 arrays, are
    summed by an all-reduce of all small arrays together. In a program that `jit` divides over CPU
    devices, the devices wait for each other at the gradient of every parameter.
    """
    return jax.shard_map(
        lambda params, batch, key: _all_reduce(function(params, batch, key)),
        in_specs=(PartitionSpec(), PartitionSpec("data"), PartitionSpec()),
        out_specs=PartitionSpec(),
        check_vma=False,
    )


def _all_reduce(tree):
    """Sum the arrays of a tree over devices, small arrays as one, so that devices wait once."""
    arrays, structure = jax.tree.flatten(tree)
    small, unravel = ravel_pytree([x for x in arrays if x.size <= SMALL])
    sums = iter(unravel(lax.psum(small, "data")))
    return jax.tree.unflatten(
        structure, [next(sums) if x.size <= SMALL else lax.psum(x, "data") for x in arrays]
    )
