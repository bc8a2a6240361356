"""Types that a benchmark module declares, and workloads that several modules share.

Frameworks are imported in functions, because each implementation runs in its own process.
"""

import itertools
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, NamedTuple

import numpy as np

from training import mesh

ADAM: dict[str, Any] = {
    "schedule": "constant",
    "learning_rate": 1e-4,
    "warmup_steps": 0,
    "b1": 0.9,
    "b2": 0.98,
    "eps": 1e-9,
    "clip": 0.0,
}

Batches = list[dict[str, np.ndarray]]


class Program(NamedTuple):
    """Program that a round executes.

    Attributes:
        jaxpr: closed jaxpr of the program.
        while_steps: number of iterations of its `while` loops; by default, the largest number that
            their conditions admit.
    """

    jaxpr: Any
    while_steps: int | None = None


class Workload(NamedTuple):
    """Work of one implementation.

    Attributes:
        run: executes one round and waits for its results.
        trace: returns the programs of one round; those of other frameworks are not traced.
    """

    run: Callable[[], None]
    trace: Callable[[], Sequence[Program]] = tuple


Implementation = Callable[[], Workload]  # builds the workload; must be picklable


class Benchmark(NamedTuple):
    """Implementations of the same work, which are timed in turn.

    Attributes:
        name: path such as 'seq2seq/small/training'; any prefix of it selects the benchmark.
        items: number of items of one round.
        unit: what an item is, in the plural: 'tokens'.
        implementations: 'ours', variants of it ('ours padded'), and those of PyTorch ('torch ...').
    """

    name: str
    items: int
    unit: str
    implementations: Mapping[str, Implementation]


class Measurement(NamedTuple):
    """Measurement other than a comparison of throughputs.

    Attributes:
        name: as of a `Benchmark`.
        measure: returns the rows of a table as `{column: value}`; runs in its own process and must
            be picklable.
    """

    name: str
    measure: Callable[[], list[dict[str, Any]]]


def make_training(task: Any, batches: Sequence[Any], cpu_devices: int = 1) -> Workload:
    """Create the workload that runs the task's jitted training step on each batch.

    Args:
        task: see `tasks.base.Task`.
        batches: NumPy batches of one round, all of the same shapes.
        cpu_devices: number of CPU devices, as in the configs.
    """
    import jax

    from training.step import init_state, jit_train_step, trace_train_step

    mesh.set_cpu_device_count(cpu_devices)
    devices = mesh.make_mesh(data=-1, fsdp=1, tensor=1)
    key = mesh.replicate(jax.random.key(1), devices)
    abstract = mesh.abstract_state(jax.eval_shape(task.init, key), devices)
    state = init_state(task, abstract, key)
    update = jit_train_step(task, abstract, devices)
    sharded, steps = [mesh.shard_batch(batch, devices) for batch in batches], itertools.count()

    def run():
        nonlocal state
        with jax.set_mesh(devices):
            for batch in sharded:
                state, metrics = update(state, batch, key, np.int32(next(steps)))
        metrics["loss"].block_until_ready()

    def trace():
        traced = trace_train_step(update, abstract, sharded[0], key, devices)
        return [Program(traced.jaxpr)] * len(sharded)

    return Workload(run, trace)


def torch_device() -> str:
    """Configure PyTorch like JAX and return its device: a GPU if there is one, otherwise the CPU.

    Sets the number of threads and the precision of matrix products.
    """
    import torch

    torch.set_num_threads(mesh.available_cpus())
    torch.set_float32_matmul_precision("high")  # TensorFloat-32 on GPUs, the default of XLA
    return "cuda" if torch.cuda.is_available() else "cpu"


def make_torch_training(model: Any, batches: Batches, compiled: bool) -> Workload:
    """Create the workload that trains a `torch.nn.Module`, which maps a batch to its loss.

    Args:
        model: called with the arrays of a batch as keyword arguments.
        batches: NumPy batches of one round.
        compiled: whether to use `torch.compile`.
    """
    import torch

    device = torch_device()
    model = model.to(device)
    rate, betas, eps = ADAM["learning_rate"], (ADAM["b1"], ADAM["b2"]), ADAM["eps"]
    adam = torch.optim.Adam(model.parameters(), rate, betas, eps, fused=True)
    loss_of = torch.compile(model) if compiled else model

    def place(x):
        # PyTorch's indices are 64-bit integers.
        return torch.tensor(x, dtype=torch.long if x.dtype == np.int32 else None, device=device)

    placed = [{name: place(x) for name, x in batch.items()} for batch in batches]

    def run():
        for batch in placed:
            adam.zero_grad(set_to_none=True)
            loss = loss_of(**batch)
            loss.backward()
            adam.step()
        loss.item()

    return Workload(run)


def beside_torch(
    ours: Implementation, torch: Callable[[bool], Workload]
) -> dict[str, Implementation]:
    """Return three implementations by name: ours, PyTorch in eager mode, and PyTorch compiled."""
    return {
        "ours": ours,
        "torch eager": partial(torch, False),
        "torch compiled": partial(torch, True),
    }
