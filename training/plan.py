"""Ahead-of-time compilation of a training step for hardware that need not be present.

    python train.py --config=configs/transformer_big_wmt14.py --plan=v5e:4x4

Plans for TPUs need the TPU compiler (`pip install -r requirements-plan.txt`) but no TPU.
`--plan=local` plans for the devices of this host.
"""

import importlib.util
import math
import os
import re
import time
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import jax
from jax.experimental import topologies
from jax.sharding import NamedSharding, PartitionSpec

from training import collectives, flops, mesh
from training.console import format_bytes, format_duration
from training.errors import UserError
from training.mesh import bytes_per_device
from training.step import jit_train_step, trace_train_step

GIB = 2**30
LOCAL = "local"


class Chip(NamedTuple):
    """Memory in bytes and peak bfloat16 FLOP/s of one device."""

    memory: float
    peak_flops: float


# From https://cloud.google.com/tpu/docs/system-architecture-tpu-vm.
TPUS = {
    "v5e": Chip(16 * GIB, 197e12),
    "v5p": Chip(95 * GIB, 459e12),
    "v6e": Chip(32 * GIB, 918e12),
}
ACCELERATOR_TYPES = {"v5e": "v5litepod-16", "v5p": "v5p-16", "v6e": "v6e-16"}


class Plan(NamedTuple):
    """Resources of a compiled training step. Sizes are in bytes per device.

    Attributes:
        hardware: description of the devices.
        chip: one device.
        mesh: axis sizes.
        batch: shapes of the largest batch.
        parameters: number of parameters.
        weights: size of the parameters.
        optimizer: size of the rest of the state.
        arguments: size of state and batch in the layout of the hardware.
        activations: temporary memory of a step, including gradients.
        total: peak memory.
        flops: FLOPs of a step on all devices.
        collectives: `{kind: (executions per step, bytes of the results)}`.
        out_of_memory: message of the compiler if the step does not fit, otherwise empty.
        compile_seconds: wall time of the compilation.
        compile_cpu_seconds: CPU time of the compilation.
    """

    hardware: str
    chip: Chip
    mesh: Mapping[str, int]
    batch: str
    parameters: int
    weights: int
    optimizer: int
    arguments: int
    activations: int
    total: int
    flops: float
    collectives: dict[str, tuple[int, int]]
    out_of_memory: str
    compile_seconds: float
    compile_cpu_seconds: float

    @property
    def fits(self) -> bool:
        """Whether the step fits into the memory of a device."""
        return not self.out_of_memory and self.total <= self.chip.memory

    def step_seconds(self, utilization: float) -> float:
        """Return the time of a compute-bound step at a given fraction of the peak FLOP/s."""
        peak = math.prod(self.mesh.values()) * self.chip.peak_flops
        return self.flops / (peak * utilization)


def make_plan(task: Any, batch: Any, sizes: Mapping[str, int], hardware: str) -> Plan:
    """Compile the training step of a task for `hardware`.

    Args:
        task: see `tasks.base.Task`; only its `init` and `train_step` are traced.
        batch: shapes of a batch.
        sizes: `config.mesh`.
        hardware: TPU type and topology, such as 'v5e:4x4', or 'local'.

    Raises:
        UserError: if the hardware is unknown, or the mesh or the batch does not fit it.
    """
    clocks = time.perf_counter, time.process_time
    start = [clock() for clock in clocks]
    devices, chip = resolve_hardware(hardware)
    shapes = jax.eval_shape(task.init, jax.random.key(0))
    sizes = mesh.resolve_mesh_shape(sizes, shapes, len(devices), chip.memory)
    device_mesh = mesh.make_mesh(devices, **sizes)
    state = mesh.abstract_state(shapes, device_mesh)
    batch = _with_sharding(batch, mesh.batch_sharding(batch, device_mesh))
    key = jax.eval_shape(jax.random.key, 0)
    key = _with_sharding(key, NamedSharding(device_mesh, PartitionSpec()))
    train_step = jit_train_step(task, state, device_mesh)
    traced = trace_train_step(train_step, state, batch, key, device_mesh)
    compiled, out_of_memory = _compile(traced, devices[0].platform)
    memory = compiled.memory_analysis() if compiled else None
    wall, cpu = (clock() - x for clock, x in zip(clocks, start, strict=True))
    return Plan(
        hardware=f"{hardware}, {len(devices)} x {devices[0].device_kind}",
        chip=chip,
        mesh=dict(device_mesh.shape),
        batch=_format_shapes(batch),
        parameters=sum(x.size for x in jax.tree.leaves(state.params)),
        weights=bytes_per_device(state.params),
        optimizer=bytes_per_device(state) - bytes_per_device(state.params),
        arguments=memory.argument_size_in_bytes if memory else 0,
        activations=memory.temp_size_in_bytes if memory else 0,
        total=_peak_memory(memory) if memory else 0,
        flops=flops.count(traced.jaxpr),
        collectives=collectives.count(compiled.as_text()) if compiled else {},
        out_of_memory=out_of_memory,
        compile_seconds=wall,
        compile_cpu_seconds=cpu,
    )


def _format_shapes(batch: Any) -> str:
    """Format the names of arrays grouped by shape, such as 'source, target: 96 x 256'."""
    names: dict[tuple[int, ...], list[str]] = {}
    for path, x in jax.tree.leaves_with_path(batch):
        names.setdefault(x.shape, []).append(jax.tree_util.keystr(path, simple=True))
    return "; ".join(f"{', '.join(names[x])}: {' x '.join(map(str, x))}" for x in names)


def _with_sharding(tree: Any, sharding: NamedSharding) -> Any:
    add = lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=sharding)
    return jax.tree.map(add, tree)


def _compile(traced: Any, platform: str) -> tuple[Any, str]:
    """Return the compiled program and '', or None and the compiler's out-of-memory message."""
    try:
        return traced.lower(lowering_platforms=(platform,)).compile(), ""
    except jax.errors.JaxRuntimeError as error:
        if "RESOURCE_EXHAUSTED" not in str(error):
            raise
        return None, _out_of_memory_message(str(error))


def _out_of_memory_message(message: str) -> str:
    """Extract the sentence with the memory sizes."""
    found = re.search(r"Used [\d.]+\w+ of [\d.]+\w+ \w+", message)
    return found[0] if found else message.splitlines()[0].removeprefix("RESOURCE_EXHAUSTED: ")


def _peak_memory(memory: Any) -> int:
    """Return the bytes allocated at once; the donated state aliases the new state."""
    buffers = memory.argument_size_in_bytes + memory.output_size_in_bytes
    return buffers - memory.alias_size_in_bytes + memory.temp_size_in_bytes


def resolve_hardware(hardware: str) -> tuple[Sequence[jax.Device], Chip]:
    """Return the devices that a hardware name stands for, and their `Chip`.

    Raises:
        UserError: if the name is unknown, or the TPU compiler is not installed.
    """
    if hardware == LOCAL:
        peak = flops.peak() / jax.device_count()
        return jax.devices(), Chip(mesh.memory_per_device(), peak)
    kind, _, topology_name = hardware.partition(":")
    if kind not in TPUS or not re.fullmatch(r"\d+(x\d+)+", topology_name):
        raise UserError(
            f"Unknown hardware --plan={hardware}: use '{LOCAL}', or one of {', '.join(TPUS)} with "
            "its topology, such as v5e:4x4 or v5p:2x2x2."
        )
    if importlib.util.find_spec("libtpu") is None:
        raise UserError("The TPU compiler is not installed: pip install -r requirements-plan.txt")
    # libtpu would query a metadata server for these values; any slice size is valid here. No TPU
    # is acquired, so other processes may load libtpu at the same time.
    os.environ |= {
        "ALLOW_MULTIPLE_LIBTPU_LOAD": "1",
        "TPU_SKIP_MDS_QUERY": "1",
        "TPU_WORKER_HOSTNAMES": "localhost",
        "TPU_ACCELERATOR_TYPE": ACCELERATOR_TYPES[kind],
    }
    jax.config.update("jax_platforms", "cpu")
    try:
        topology = topologies.get_topology_desc(platform="tpu", topology_name=hardware)
    except jax.errors.JaxRuntimeError as error:
        reason = str(error).splitlines()[0]
        raise UserError(f"libtpu rejects the topology of --plan={hardware}: {reason}") from error
    return topology.devices, TPUS[kind]


def format_plan(plan: Plan, *, utilization: float, steps: int) -> dict[str, str]:
    """Format a plan as labeled rows for the console.

    Args:
        plan: from `make_plan`.
        utilization: assumed fraction of the peak FLOP/s.
        steps: training steps of the run.
    """
    step = plan.step_seconds(utilization)
    memory = format_bytes(plan.chip.memory)
    rows = {
        "hardware": plan.hardware,
        "mesh": " x ".join(f"{name} {size}" for name, size in plan.mesh.items()),
        "largest batch": plan.batch,
        "parameters": f"{plan.parameters:,}",
        "weights per device": format_bytes(plan.weights),
        "optimizer per device": format_bytes(plan.optimizer),
    }
    if plan.out_of_memory:
        rows["fits"] = f"no: {plan.out_of_memory}"
    else:
        fraction = plan.total / plan.chip.memory
        rows |= {
            "activations per device": format_bytes(plan.activations),
            "total per device": f"{format_bytes(plan.total)}, {fraction:.0%} of {memory}",
            "fits": "yes" if plan.fits else "no",
        }
        for kind, (times, size) in plan.collectives.items():
            rows[kind] = f"{times:,} per step, {format_bytes(size)} per device"
    peak = f"{plan.chip.peak_flops / 1e12:.4g} TFLOP/s"
    return rows | {
        "FLOPs": f"{plan.flops:.3e} per step",
        "step time": f"{step * 1e3:.2f} ms at {utilization:.0%} of {peak}",
        f"{steps:,} steps": format_duration(steps * step),
        "compilation": f"{plan.compile_seconds:.0f} s, CPU time {plan.compile_cpu_seconds:.0f} s",
    }
