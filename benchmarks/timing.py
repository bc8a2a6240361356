"""Interleaved timing of several implementations, each in its own process."""

import importlib.util
import itertools
import json
import multiprocessing
import statistics
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from training import allocator, mesh

# Builds the workload and returns a function that runs one round of it.
Implementation = Callable[[], Callable[[], None]]


def time_interleaved(
    implementations: Mapping[str, Implementation], rounds: int
) -> dict[str, list[float]]:
    """Measure the seconds of every round, alternating between implementations: A B C, A B C, ...

    Each implementation has its own process, because the thread pools and allocators of two
    frameworks interfere. Only one process computes at a time. An untimed warmup round comes first.

    Args:
        implementations: functions that build a workload, by name; must be picklable.
        rounds: number of timed rounds of each implementation.
    """
    context = multiprocessing.get_context("spawn")
    pipes, processes = {}, []
    for name, implementation in implementations.items():
        pipes[name], child = context.Pipe()
        processes.append(context.Process(target=_serve, args=(implementation, child), daemon=True))
        processes[-1].start()
        child.close()  # so that `recv` raises EOFError if the process dies
    for pipe in pipes.values():
        pipe.recv()  # all processes are warmed up before the first round
    seconds: dict[str, list[float]] = {name: [] for name in implementations}
    for _ in range(rounds):
        for name, pipe in pipes.items():
            pipe.send(True)
            seconds[name].append(pipe.recv())
    for process in processes:
        process.terminate()
    return seconds


def _serve(implementation, pipe):
    allocator.configure_malloc()  # the same allocator settings for every implementation
    run = implementation()
    run()
    pipe.send(None)
    while pipe.recv():
        start = time.perf_counter()
        run()
        pipe.send(time.perf_counter() - start)


def median_speedup(peer: Sequence[float], ours: Sequence[float]) -> float:
    """Return the median over rounds of the peer's seconds divided by our seconds."""
    return statistics.median(a / b for a, b in zip(peer, ours, strict=True))


def torch_device() -> str:
    """Configure PyTorch like JAX and return its device: a GPU if there is one, otherwise the CPU.

    Sets the number of threads and the precision of matrix products.
    """
    import torch

    torch.set_num_threads(mesh.available_cpus())
    torch.set_float32_matmul_precision("high")  # TensorFloat-32 on GPUs, the default of XLA
    return "cuda" if torch.cuda.is_available() else "cpu"


def make_train_fn(task: Any, batches: Sequence[Any], cpu_devices: int = 1) -> Callable[[], None]:
    """Return a function that runs the task's jitted training step on each batch.

    Args:
        task: see `tasks.base.Task`.
        batches: NumPy batches of one round.
        cpu_devices: number of CPU devices, as in the configs.
    """
    import jax

    from training.step import init_state, jit_train_step

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

    return run


def compare(
    benchmark: str,
    items: int,
    implementations: Mapping[str, Implementation],
    *,
    unit: str = "tokens/s",
    rounds: int = 7,
    **fields: Any,
) -> None:
    """Time 'ours' against the other implementations and print a table and the JSON line.

    Args:
        benchmark: name of the benchmark.
        items: number of items (tokens, images, ...) per round.
        implementations: functions by name; the peer is the fastest one whose name does not begin
            with 'ours'.
        unit: unit of the throughput.
        rounds: number of timed rounds.
        fields: additional fields of the JSON line.
    """
    if importlib.util.find_spec("torch") is None:
        sys.exit("error: PyTorch is not installed: pip install -r requirements-peers.txt")
    seconds = time_interleaved(implementations, rounds)
    throughput = {name: items / statistics.median(times) for name, times in seconds.items()}
    ratios = {name: median_speedup(times, seconds["ours"]) for name, times in seconds.items()}
    for name in implementations:
        print(f"{name:>15}  {throughput[name]:>8,.0f} {unit}   speedup of ours {ratios[name]:.2f}")
    peer = min((name for name in ratios if not name.startswith("ours")), key=ratios.__getitem__)
    report(
        benchmark,
        throughput["ours"],
        throughput[peer],
        unit,
        ratios[peer],
        implementation=peer,
        ratios=ratios,
        rounds=rounds,
        **fields,
    )


def report(benchmark: str, ours: float, peer: float, unit: str, ratio: float, **fields) -> None:
    """Print the JSON line that ends every benchmark."""
    line = {"benchmark": benchmark, "ours": ours, "peer": peer, "unit": unit, "ratio": ratio}
    print(json.dumps(line | fields))
