"""Where arrays live: one mesh, one table from logical axes to mesh axes.

A parameter names its dimensions (`nnx.Param(value, axes=('vocab', 'embed'))`), the table says which
mesh axis each name may be split over, and `jit` with the shardings made here does the rest. The
optimizer's moments are made from the parameters, keep their names, and so are split like them.
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

from training.errors import UserError

RULES: dict[str | None, str] = {
    "vocab": "tensor",
    "heads": "tensor",
    "mlp": "tensor",
    "embed": "fsdp",
}
BATCH_AXES = ("data", "fsdp")  # the rows of a batch are split over both
DEVICE_COUNT = "xla_force_host_platform_device_count"
THREADS = 8  # for each device of a CPU with fewer cores than devices


def available_cpus() -> int:
    """How many cores of the CPU this process may use."""
    if hasattr(os, "sched_getaffinity"):  # where a process can be confined
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def set_cpu_device_count(count: int) -> None:
    """Makes a CPU count as so many devices; to be called before anything else of JAX.

    XLA's CPU backend shares a large operation among the cores, and a small one, as loops over time
    are made of, hardly. As devices, cores have rows of their own of each batch, and need not meet.
    Other hardware stays as it is, and so does a CPU with fewer cores than that, or one that
    `XLA_FLAGS` has split already.
    """
    forced = re.search(rf"{DEVICE_COUNT}=(\d+)", os.environ.get("XLA_FLAGS", ""))
    if not forced:
        jax.config.update("jax_num_cpu_devices", count if count <= available_cpus() else 1)
    elif int(forced[1]) > available_cpus():
        # Where a device waits for the others it holds a thread, at times several; XLA starts as
        # many as there are cores, and if all are held, nobody comes.
        os.environ.setdefault("NPROC", str(THREADS * int(forced[1])))


def make_mesh(
    devices: Sequence[jax.Device] | None = None, /, *, data: int, fsdp: int, tensor: int
) -> Mesh:
    """A mesh over `devices`, or all; one of the sizes may be -1, "all that remain".

    Raises:
        UserError: if the sizes do not multiply to the number of devices.
    """
    sizes = {"data": data, "fsdp": fsdp, "tensor": tensor}
    count = len(devices or jax.devices())
    asked = " x ".join(f"{name}={size}" for name, size in sizes.items())
    open_axes = [name for name, size in sizes.items() if size == -1]
    fixed = math.prod(size for size in sizes.values() if size != -1)
    fits = len(open_axes) <= 1 and fixed > 0 and count % fixed == 0
    if fits and open_axes:
        sizes[open_axes[0]] = count // fixed
    if not fits or math.prod(sizes.values()) != count:
        raise UserError(
            f"The mesh {asked} does not fit {count} device{'s' * (count > 1)}: "
            "the sizes must multiply to that number, and one of them may be -1 for the rest."
        )
    kinds = (AxisType.Auto,) * len(sizes)
    return jax.make_mesh(tuple(sizes.values()), tuple(sizes), kinds, devices=devices)


def resolve_mesh_shape(
    sizes: Mapping[str, int], state: Any, devices: int, memory: float
) -> dict[str, int]:
    """Chooses for those who let both data and fsdp be -1, "as you like"; others get their own.

    A state that is whole on every device needs no exchange but of gradients. So it is split only if
    it would take more than half of a device's memory, and then over no more devices than it must.

    Args:
        sizes: of the mesh, as `config.mesh`.
        state: its arrays, or their shapes.
        devices: how many there are.
        memory: of each, in bytes.
    """
    if (sizes["data"], sizes["fsdp"]) != (-1, -1) or sizes["tensor"] < 1:
        return dict(sizes)
    rest = devices // sizes["tensor"]
    need = sum(x.size * x.dtype.itemsize for x in jax.tree.leaves(state)) / sizes["tensor"]
    parts = [n for n in range(1, rest + 1) if rest % n == 0]
    fsdp = next((n for n in parts if need / n <= memory / 2), rest)
    return dict(sizes) | {"data": -1, "fsdp": fsdp}


def memory() -> float:
    """Bytes that a device of this machine has; the devices of a CPU share what it has."""
    if stats := jax.local_devices()[0].memory_stats():
        return stats["bytes_limit"]
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / jax.local_device_count()


def bytes_per_device(tree: Any) -> int:
    """What one device holds of arrays, or their shapes, that know how they are split."""
    return sum(
        math.prod(x.sharding.shard_shape(x.shape)) * x.dtype.itemsize for x in jax.tree.leaves(tree)
    )


def shardings(abstract_state: Any, mesh: Mesh) -> Any:
    """The same tree with a `NamedSharding` in place of every array."""

    def place(leaf):
        if not isinstance(leaf, nnx.Variable):
            return NamedSharding(mesh, PartitionSpec())
        spec = partition(leaf.get_value().shape, leaf.get_metadata().get("axes", ()), mesh)
        return leaf.replace(NamedSharding(mesh, spec))

    return jax.tree.map(place, abstract_state, is_leaf=lambda x: isinstance(x, nnx.Variable))


def partition(
    shape: tuple[int, ...], axes: tuple[str | None, ...], mesh: Mesh | AbstractMesh
) -> PartitionSpec:
    """Splits each dimension by the rule for its name, if the mesh axis is free and divides it."""
    if len(axes) != len(shape):  # unnamed, or a statistic of another rank than its parameter
        return PartitionSpec()
    spec = []
    for size, name in zip(shape, axes, strict=True):
        axis = RULES.get(name)
        usable = axis and axis not in spec and size % mesh.shape[axis] == 0
        spec.append(axis if usable else None)
    return PartitionSpec(*spec)


def abstract(state: Any, mesh: Mesh) -> Any:
    """Shapes, dtypes and shardings of `state` (abstract or not): what a checkpoint restores to."""
    return jax.tree.map(
        lambda x, sharding: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=sharding),
        state,
        shardings(state, mesh),
    )


def replicate(tree: Any, mesh: Mesh) -> Any:
    """Puts a copy of every array on every device."""
    everywhere = NamedSharding(mesh, PartitionSpec())
    return jax.jit(lambda x: x, out_shardings=everywhere)(tree)  # on other hosts' devices as well


def shard_batch(batch: Any, mesh: Mesh) -> Any:
    """Puts a batch of NumPy arrays on the devices, rows split over data and fsdp.

    Every host has the whole batch, and puts those of its rows that its own devices hold.

    Raises:
        UserError: if the rows cannot be split evenly.
    """
    sharding = batch_sharding(batch, mesh)
    place = lambda x: jax.make_array_from_callback(np.shape(x), sharding, x.__getitem__)
    return jax.tree.map(place, batch)


def batch_sharding(batch: Any, mesh: Mesh) -> NamedSharding:
    """Where the arrays of a batch (or their shapes) go: rows split over data and fsdp.

    Raises:
        UserError: if the rows cannot be split evenly.
    """
    parts = math.prod(mesh.shape[axis] for axis in BATCH_AXES)
    rows = {np.shape(x)[0] for x in jax.tree.leaves(batch)}
    if uneven := [n for n in rows if n % parts]:
        raise UserError(
            f"A batch of {uneven[0]} rows cannot be split over {parts} devices: "
            "make the batch sizes multiples of mesh.data x mesh.fsdp."
        )
    return NamedSharding(mesh, PartitionSpec(BATCH_AXES))


@contextlib.contextmanager
def split_rows(tree: Any) -> Iterator[Callable[[Any], Any]]:
    """Lets what is traced within it know the mesh of a tree's arrays; yields what splits a batch.

    A batch whose rows cannot be split evenly is left as it is, and so are all if the arrays have a
    device for themselves.
    """
    sharding = jax.tree.leaves(tree)[0].sharding
    mesh = getattr(sharding, "mesh", None)
    if not isinstance(mesh, Mesh) or mesh.size == 1:
        yield lambda batch: batch
        return
    parts = math.prod(mesh.shape[axis] for axis in BATCH_AXES)
    rows = lambda batch: len(jax.tree.leaves(batch)[0])
    with jax.set_mesh(mesh):
        yield lambda batch: batch if rows(batch) % parts else shard_batch(batch, mesh)
