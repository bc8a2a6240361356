"""Contestants in processes of their own, run in turn so that all meet the same machine."""

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

# Builds what is to be timed and returns it: a call does one round.
Contestant = Callable[[], Callable[[], None]]


def race(contestants: Mapping[str, Contestant], rounds: int) -> dict[str, list[float]]:
    """Seconds of each round of each contestant: A B C, A B C, ...

    Each has its own process, as thread pools and allocators of two frameworks get in each other's
    way; all but the one whose turn it is sleep. A first round of each is not counted.
    """
    context = multiprocessing.get_context("spawn")
    pipes, processes = {}, []
    for name, contestant in contestants.items():
        pipes[name], theirs = context.Pipe()
        processes.append(context.Process(target=_serve, args=(contestant, theirs), daemon=True))
        processes[-1].start()
        theirs.close()  # so that one that dies is noticed: `recv` raises EOFError
    for pipe in pipes.values():
        pipe.recv()  # built and warm, all of them, before the first round
    seconds: dict[str, list[float]] = {name: [] for name in contestants}
    for _ in range(rounds):
        for name, pipe in pipes.items():
            pipe.send(True)
            seconds[name].append(pipe.recv())
    for process in processes:
        process.terminate()
    return seconds


def _serve(contestant, pipe):
    allocator.configure_malloc()  # what it gains us, it gains the others
    run = contestant()
    run()
    pipe.send(None)
    while pipe.recv():
        start = time.perf_counter()
        run()
        pipe.send(time.perf_counter() - start)


def ratio(peer: Sequence[float], ours: Sequence[float]) -> float:
    """How many times as fast we are: the median over rounds, each compared with its neighbour."""
    return statistics.median(theirs / us for theirs, us in zip(peer, ours, strict=True))


def torch_device() -> str:
    """Where PyTorch computes: on a GPU if there is one, as we do, with as many cores and as exact.

    To be called by all of its contestants.
    """
    import torch

    torch.set_num_threads(mesh.available_cpus())
    torch.set_float32_matmul_precision("high")  # on GPUs TensorFloat-32, as XLA has it
    return "cuda" if torch.cuda.is_available() else "cpu"


def train_ours(task: Any, batches: Sequence[Any], cpu_devices: int = 1) -> Callable[[], None]:
    """The task's own step, compiled and fed as the loop does it; see `cpu_devices` in configs."""
    import jax

    from training.step import init_state, make_update

    mesh.set_cpu_device_count(cpu_devices)
    devices = mesh.make_mesh(data=-1, fsdp=1, tensor=1)
    key = mesh.replicate(jax.random.key(1), devices)
    abstract = mesh.abstract(jax.eval_shape(task.init, key), devices)
    state = init_state(task, abstract, key)
    update = make_update(task, abstract, devices)
    placed, steps = [mesh.shard_batch(batch, devices) for batch in batches], itertools.count()

    def run():
        nonlocal state
        with jax.set_mesh(devices):
            for batch in placed:
                state, metrics = update(state, batch, key, np.int32(next(steps)))
        metrics["loss"].block_until_ready()

    return run


def compare(
    benchmark: str,
    count: int,
    forms: Mapping[str, Contestant],
    *,
    unit: str = "tokens/s",
    rounds: int = 7,
    **more: Any,
) -> None:
    """Races 'ours' against the other forms; prints a table and the line of JSON.

    Args:
        benchmark: its name.
        count: how many of what is counted a round has.
        forms: the contestants; the peer is the fastest that is not 'ours'.
        unit: what is counted, by the second.
        rounds: how many.
        more: of the line of JSON.
    """
    if importlib.util.find_spec("torch") is None:
        sys.exit("error: PyTorch is not installed: pip install -r requirements-peers.txt")
    seconds = race(forms, rounds)
    speed = {name: count / statistics.median(times) for name, times in seconds.items()}
    ratios = {name: ratio(times, seconds["ours"]) for name, times in seconds.items()}
    for name in forms:
        print(f"{name:>15}  {speed[name]:>8,.0f} {unit}   ours / it {ratios[name]:.2f}")
    del ratios["ours"]
    peer = min(ratios, key=lambda name: ratios[name])
    report(
        benchmark,
        speed["ours"],
        speed[peer],
        unit,
        ratios[peer],
        form=peer,
        rounds=rounds,
        **more,
    )


def report(benchmark: str, ours: float, peer: float, unit: str, ratio: float, **more) -> None:
    """The last line of every benchmark."""
    line = {"benchmark": benchmark, "ours": ours, "peer": peer, "unit": unit, "ratio": ratio}
    print(json.dumps(line | more))
