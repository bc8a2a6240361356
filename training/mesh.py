"""Device meshes and shardings.

A parameter names its dimensions (`nnx.Param(value, axes=('vocab', 'embed'))`). `RULES` maps these
logical axes to mesh axes, and `jit` partitions the program from the resulting shardings. Optimizer
moments inherit the axes of their parameters and are sharded in the same way.
"""

import contextlib
import math
import os
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import jax
import numpy as np
from flax import nnx
from jax.sharding import AbstractMesh, AxisType, Mesh, NamedSharding, PartitionSpec

from training.errors import UserError, first_line

RULES: dict[str | None, str] = {
    "vocab": "tensor",
    "heads": "tensor",
    "mlp": "tensor",
    "embed": "fsdp",
}
BATCH_AXES = ("data", "fsdp")  # mesh axes over which the batch axis is sharded
DEVICE_COUNT_FLAG = "xla_force_host_platform_device_count"
THREADS_PER_DEVICE = 8  # on a CPU with more devices than cores


def available_cpus() -> int:
    """Return the number of CPU cores available to this process."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def set_cpu_device_count(count: int) -> None:
    """Split the CPU into `count` JAX devices. Must precede any other use of JAX.

    XLA's CPU backend parallelizes large operations over cores, but hardly parallelizes the small
    operations of a loop over time steps. With one device per core, each core computes its own part
    of the batch without synchronization. Has no effect on other backends, on a CPU with
    fewer than `count` cores, or if `XLA_FLAGS` already sets a device count.

    With a single device, computations run in the calling thread, because glibc maps large
    temporaries of other threads at every step; see `training.allocator`.
    """
    forced = re.search(rf"{DEVICE_COUNT_FLAG}=(\d+)", os.environ.get("XLA_FLAGS", ""))
    if not forced:
        devices = count if count <= available_cpus() else 1
        jax.config.update("jax_num_cpu_devices", devices)
        jax.config.update("jax_cpu_enable_async_dispatch", devices > 1)
    elif int(forced[1]) > available_cpus():
        # A device that waits in a collective blocks one or more threads of XLA's pool, which has
        # one thread per core by default. A larger pool prevents a deadlock.
        os.environ.setdefault("NPROC", str(THREADS_PER_DEVICE * int(forced[1])))


def initialize_devices() -> None:
    """Initialize the devices of this process.

    Raises:
        UserError: if `JAX_PLATFORMS` names hardware that is missing.
    """
    try:
        jax.devices()
    except (RuntimeError, AssertionError) as error:  # an AssertionError without a visible GPU
        platforms = os.environ.get("JAX_PLATFORMS", "")
        reason = first_line(error) if str(error) else "no GPU is visible"
        reason = reason.partition(" (set JAX_PLATFORMS")[0]
        raise UserError(
            f"JAX cannot use the hardware of JAX_PLATFORMS='{platforms}' ({reason}): install JAX "
            "for that hardware, or unset the variable."
        ) from error


def make_mesh(
    devices: Sequence[jax.Device] | None = None, /, *, data: int, fsdp: int, tensor: int
) -> Mesh:
    """Create a mesh over `devices`, by default all; a size of -1 takes the remaining devices.

    Raises:
        UserError: if the product of the sizes is not the number of devices.
    """
    sizes = {"data": data, "fsdp": fsdp, "tensor": tensor}
    count = len(devices or jax.devices())
    requested = " x ".join(f"{name}={size}" for name, size in sizes.items())
    inferred = [name for name, size in sizes.items() if size == -1]
    fixed = math.prod(size for size in sizes.values() if size != -1)
    fits = len(inferred) <= 1 and fixed > 0 and count % fixed == 0
    if fits and inferred:
        sizes[inferred[0]] = count // fixed
    if not fits or math.prod(sizes.values()) != count:
        raise UserError(
            f"The mesh {requested} does not fit {count} device{'s' * (count > 1)}: the product of "
            "the sizes must be the number of devices, and one size may be -1 for the remainder."
        )
    kinds = (AxisType.Auto,) * len(sizes)
    return jax.make_mesh(tuple(sizes.values()), tuple(sizes), kinds, devices=devices)


def resolve_mesh_shape(
    sizes: Mapping[str, int], state: Any, devices: int, memory: float
) -> dict[str, int]:
    """Choose `fsdp` if both `data` and `fsdp` are -1; return other mesh shapes unchanged.

    A replicated state needs no communication except the gradient all-reduce. The state is sharded
    only if it would take more than half of a device's memory, over as few devices as possible.

    Args:
        sizes: `config.mesh`.
        state: arrays or their shapes.
        devices: number of devices.
        memory: bytes per device.
    """
    if (sizes["data"], sizes["fsdp"]) != (-1, -1) or sizes["tensor"] < 1:
        return dict(sizes)
    remaining = devices // sizes["tensor"]
    size = sum(x.size * x.dtype.itemsize for x in jax.tree.leaves(state)) / sizes["tensor"]
    divisors = [n for n in range(1, remaining + 1) if remaining % n == 0]
    fsdp = next((n for n in divisors if size / n <= memory / 2), remaining)
    return dict(sizes) | {"data": -1, "fsdp": fsdp}


def check_mesh_shape(sizes: Mapping[str, int]) -> None:
    """Check that a mesh fits the devices, before the size of the state is known.

    Args:
        sizes: `config.mesh`.

    Raises:
        UserError: if the product of the sizes is not the number of devices.
    """
    make_mesh(**resolve_mesh_shape(sizes, (), jax.device_count(), math.inf))


def memory_per_device() -> float:
    """Return the memory of a local device in bytes; CPU devices share the host memory equally."""
    if stats := jax.local_devices()[0].memory_stats():
        return stats["bytes_limit"]
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / jax.local_device_count()


def bytes_per_device(tree: Any) -> int:
    """Return the bytes per device of a tree of sharded arrays or of their shapes."""
    return sum(
        math.prod(x.sharding.shard_shape(x.shape)) * x.dtype.itemsize for x in jax.tree.leaves(tree)
    )


def shardings(abstract_state: Any, mesh: Mesh) -> Any:
    """Return the tree with a `NamedSharding` in place of every array."""

    def sharding(leaf):
        if not isinstance(leaf, nnx.Variable):
            return NamedSharding(mesh, PartitionSpec())
        axes = leaf.get_metadata().get("axes", ())
        return leaf.replace(NamedSharding(mesh, partition_spec(leaf.get_value().shape, axes, mesh)))

    return jax.tree.map(sharding, abstract_state, is_leaf=lambda x: isinstance(x, nnx.Variable))


def partition_spec(
    shape: tuple[int, ...], axes: tuple[str | None, ...], mesh: Mesh | AbstractMesh
) -> PartitionSpec:
    """Map logical axes to mesh axes by `RULES`.

    A dimension stays replicated if its size is not divisible by the mesh axis, or if an earlier
    dimension already uses that mesh axis.
    """
    if len(axes) != len(shape):  # no names, or a statistic of a different rank than its parameter
        return PartitionSpec()
    spec = []
    for size, name in zip(shape, axes, strict=True):
        axis = RULES.get(name)
        usable = axis and axis not in spec and size % mesh.shape[axis] == 0
        spec.append(axis if usable else None)
    return PartitionSpec(*spec)


def abstract_state(state: Any, mesh: Mesh) -> Any:
    """Return the shapes, dtypes and shardings of a state, the target of a checkpoint restore."""
    return jax.tree.map(
        lambda x, sharding: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=sharding),
        state,
        shardings(state, mesh),
    )


def evaluation_state(init: Callable[[Any], Any]) -> Any:
    """Return the shapes of the state that `init(key)` returns, sharded over all devices."""
    devices = make_mesh(data=1, fsdp=-1, tensor=1)
    return abstract_state(jax.eval_shape(init, jax.random.key(0)), devices)


def replicate(tree: Any, mesh: Mesh) -> Any:
    """Replicate every array over all devices of the mesh, including devices of other hosts."""
    replicated = NamedSharding(mesh, PartitionSpec())
    return jax.jit(lambda x: x, out_shardings=replicated)(tree)


def shard_batch(batch: Any, mesh: Mesh) -> Any:
    """Shard the batch axis of NumPy arrays over the data and fsdp axes.

    Every host passes the whole batch and transfers only the shards of its own devices.

    Raises:
        UserError: if the batch size is not divisible by the number of shards.
    """
    sharding = batch_sharding(batch, mesh)
    transfer = lambda x: jax.make_array_from_callback(np.shape(x), sharding, x.__getitem__)
    return jax.tree.map(transfer, batch)


def batch_sharding(batch: Any, mesh: Mesh) -> NamedSharding:
    """Return the sharding of the arrays (or shapes) of a batch over the data and fsdp axes.

    Raises:
        UserError: if the batch size is not divisible by the number of shards.
    """
    shards = _batch_shards(mesh)
    sizes = {np.shape(x)[0] for x in jax.tree.leaves(batch)}
    if indivisible := [size for size in sizes if size % shards]:
        raise UserError(
            f"A batch of {indivisible[0]} examples cannot be sharded over {shards} devices: make "
            "the batch size a multiple of mesh.data x mesh.fsdp."
        )
    return NamedSharding(mesh, PartitionSpec(BATCH_AXES))


@contextlib.contextmanager
def evaluation_mesh(params: Any) -> Iterator[Callable[[Any], Any]]:
    """Set the mesh of the parameters for tracing; yield a function that shards a batch over it.

    The function returns the batch unchanged if its size is not divisible by the number of shards,
    or if the parameters are on a single device.
    """
    sharding = jax.tree.leaves(params)[0].sharding
    mesh = getattr(sharding, "mesh", None)
    if not isinstance(mesh, Mesh) or mesh.size == 1:
        yield lambda batch: batch
        return
    shards = _batch_shards(mesh)
    size = lambda batch: len(jax.tree.leaves(batch)[0])
    with jax.set_mesh(mesh):
        yield lambda batch: batch if size(batch) % shards else shard_batch(batch, mesh)


def _batch_shards(mesh: Mesh) -> int:
    return math.prod(mesh.shape[axis] for axis in BATCH_AXES)
