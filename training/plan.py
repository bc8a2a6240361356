"""What a run needs of hardware that one need not have: its step, compiled ahead of time.

    python train.py --config=configs/transformer_big_wmt14.py --plan=v5e:4x4

For TPUs it takes their compiler (`pip install -r requirements-plan.txt`) and no TPU. `--plan=here`
is for the devices of this machine.
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
from training.console import binary, duration
from training.errors import UserError
from training.mesh import bytes_per_device
from training.step import make_update, trace

GIB = 2**30
HERE = "here"


class Chip(NamedTuple):
    """One device: its memory in bytes, and its bfloat16 FLOP/s."""

    memory: float
    peak: float


# As https://cloud.google.com/tpu/docs/system-architecture-tpu-vm has them.
TPUS = {
    "v5e": Chip(16 * GIB, 197e12),
    "v5p": Chip(95 * GIB, 459e12),
    "v6e": Chip(32 * GIB, 918e12),
}


class Plan(NamedTuple):
    """Bytes are of one device, FLOPs of a step on all of them."""

    hardware: str
    chip: Chip
    mesh: Mapping[str, int]
    batch: str
    parameters: int
    weights: int
    optimizer: int
    arguments: int  # weights, optimizer and batch, in the layout of the hardware
    activations: int  # whatever a step needs besides, gradients and all
    total: int
    flops: float
    collectives: dict[str, tuple[int, int]]  # how many in a step, and bytes received
    refused: str  # what the compiler said if the step does not fit
    seconds: float  # that compiling took
    core_seconds: float  # the same, as time of one core

    @property
    def fits(self) -> bool:
        return not self.refused and self.total <= self.chip.memory

    def step_seconds(self, utilisation: float) -> float:
        """Time of a step if the products run at this share of the peak and nothing else counts."""
        return self.flops / (math.prod(self.mesh.values()) * self.chip.peak * utilisation)


def make(task: Any, batch: Any, sizes: Mapping[str, int], hardware: str) -> Plan:
    """Compiles the step of `task` for `hardware`.

    Args:
        task: see `tasks.base.Task`; only its `init` and `train_step` are traced.
        batch: shapes of a batch.
        sizes: of the mesh, as `config.mesh`.
        hardware: 'v5e:4x4' and the like, or 'here'.

    Raises:
        UserError: for hardware that nobody here knows, or a mesh or batch that does not fit it.
    """
    clocks = time.perf_counter, time.process_time
    start = [clock() for clock in clocks]
    devices, chip = find(hardware)
    shapes = jax.eval_shape(task.init, jax.random.key(0))
    sizes = mesh.resolve_mesh_shape(sizes, shapes, len(devices), chip.memory)
    layout = mesh.make_mesh(devices, **sizes)
    state = mesh.abstract(shapes, layout)
    rows = mesh.batch_sharding(batch, layout)
    batch = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=rows), batch)
    key = jax.eval_shape(jax.random.key, 0)
    whole = NamedSharding(layout, PartitionSpec())
    key = jax.ShapeDtypeStruct(key.shape, key.dtype, sharding=whole)
    traced = trace(make_update(task, state, layout), state, batch, key, layout)
    compiled, refused = _compile(traced, devices[0].platform)
    memory = compiled.memory_analysis() if compiled else None
    seconds, core_seconds = (clock() - x for clock, x in zip(clocks, start, strict=True))
    return Plan(
        hardware=f"{hardware}, {len(devices)} x {devices[0].device_kind}",
        chip=chip,
        mesh=dict(layout.shape),
        batch=", ".join(
            f"{jax.tree_util.keystr(path, simple=True)} {' x '.join(map(str, x.shape))}"
            for path, x in jax.tree.leaves_with_path(batch)
        ),
        parameters=sum(x.size for x in jax.tree.leaves(state.params)),
        weights=bytes_per_device(state.params),
        optimizer=bytes_per_device(state) - bytes_per_device(state.params),
        arguments=memory.argument_size_in_bytes if memory else 0,
        activations=memory.temp_size_in_bytes if memory else 0,
        total=_total(memory) if memory else 0,
        flops=flops.count(traced.jaxpr),
        collectives=collectives.count(compiled.as_text()) if compiled else {},
        refused=refused,
        seconds=seconds,
        core_seconds=core_seconds,
    )


def _compile(traced: Any, platform: str) -> tuple[Any, str]:
    """The program, or what the compiler says if it needs more memory than there is."""
    try:
        return traced.lower(lowering_platforms=(platform,)).compile(), ""
    except jax.errors.JaxRuntimeError as error:
        if "RESOURCE_EXHAUSTED" not in str(error):
            raise
        return None, _refusal(str(error))


def _total(memory: Any) -> int:
    """Bytes at the same time; the new state takes the place of the old."""
    kept = memory.argument_size_in_bytes + memory.output_size_in_bytes
    return kept - memory.alias_size_in_bytes + memory.temp_size_in_bytes


def find(hardware: str) -> tuple[Sequence[jax.Device], Chip]:
    """The devices that a name stands for, and what each of them is.

    Raises:
        UserError: if the name is unknown, or the compiler is not installed.
    """
    if hardware == HERE:
        return jax.devices(), Chip(mesh.memory(), flops.peak() / jax.device_count())
    kind, _, shape = hardware.partition(":")
    if kind not in TPUS or not re.fullmatch(r"\d+(x\d+)+", shape):
        raise UserError(
            f"--plan={hardware} is no hardware that is known here: write '{HERE}', or one of "
            f"{', '.join(TPUS)} with its shape, as v5e:4x4 or v5p:2x2x2."
        )
    if importlib.util.find_spec("libtpu") is None:
        raise UserError(
            "The compiler for TPUs is not installed: pip install -r requirements-plan.txt"
        )
    # Which the library would else ask a metadata server about. Any size of slice will do; and since
    # no TPU is taken, others may compile at the same time.
    os.environ |= {
        "ALLOW_MULTIPLE_LIBTPU_LOAD": "1",
        "TPU_SKIP_MDS_QUERY": "1",
        "TPU_WORKER_HOSTNAMES": "localhost",
        "TPU_ACCELERATOR_TYPE": {"v5e": "v5litepod-16", "v5p": "v5p-16", "v6e": "v6e-16"}[kind],
    }
    jax.config.update("jax_platforms", "cpu")
    try:
        topology = topologies.get_topology_desc(platform="tpu", topology_name=hardware)
    except jax.errors.JaxRuntimeError as error:
        reason = str(error).splitlines()[0]
        raise UserError(f"--plan={hardware} is no shape that libtpu knows: {reason}") from error
    return topology.devices, TPUS[kind]


def table(plan: Plan, *, utilisation: float, steps: int) -> dict[str, str]:
    """What a person wants to know of it, as rows of two columns.

    Args:
        plan: the plan.
        utilisation: the share of the peak that the products will reach.
        steps: of the run.
    """
    step = plan.step_seconds(utilisation)
    rows = {
        "hardware": plan.hardware,
        "mesh": " x ".join(f"{name} {size}" for name, size in plan.mesh.items()),
        "largest batch": plan.batch,
        "parameters": f"{plan.parameters:,}",
        "weights, a device": binary(plan.weights),
        "optimizer, a device": binary(plan.optimizer),
    }
    if plan.refused:
        rows["fits"] = f"no: {plan.refused}"
    else:
        share = plan.total / plan.chip.memory
        rows |= {
            "activations, a device": binary(plan.activations),
            "all, a device": f"{binary(plan.total)}, {share:.0%} of {binary(plan.chip.memory)}",
            "fits": "yes" if plan.fits else "no",
        }
        for kind, (times, size) in plan.collectives.items():
            rows[kind] = f"{times:,} a step, {binary(size)} a device"
    return rows | {
        "FLOPs": f"{plan.flops:.3e} a step",
        "step": f"{step * 1e3:.1f} ms at {utilisation:.0%} of {plan.chip.peak / 1e12:.4g} TFLOP/s",
        f"{steps:,} steps": duration(steps * step),
        "compiled in": f"{plan.seconds:.0f} s, {plan.core_seconds:.0f} s of a core",
    }


def _refusal(message: str) -> str:
    """The sentence of the compiler's that has the figures."""
    found = re.search(r"Used [\d.]+\w+ of [\d.]+\w+ \w+", message)
    return found[0] if found else message.splitlines()[0].removeprefix("RESOURCE_EXHAUSTED: ")
