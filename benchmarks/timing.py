"""Timing of several implementations in turn, each in its own process."""

import contextlib
import multiprocessing
import resource
import statistics
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from typing import Any, NamedTuple

from benchmarks.workloads import Benchmark, Implementation, Workload
from training import allocator, mesh

CORES_PER_BUILD = 4  # implementations are built one at a time on fewer than twice as many cores


class Resources(NamedTuple):
    """Resources of an implementation.

    Attributes:
        peak_bytes: peak memory, of the GPU or TPU if there is one, otherwise of the process.
        flops: FLOPs of the matrix products of a round; 0 if the programs are not traced.
        peak_flops: FLOP/s that square matrix products reach, if `flops` is known.
    """

    peak_bytes: int
    flops: float = 0.0
    peak_flops: float = 1.0


class Timing(NamedTuple):
    """Measurements of an implementation.

    Attributes:
        first_round: seconds from the start of the process to the end of its first round.
        seconds: seconds of each of the following rounds.
        resources: resources of the process after the last round.
    """

    first_round: float
    seconds: list[float]
    resources: Resources


def time_interleaved(
    implementations: Mapping[str, Implementation], rounds: int
) -> dict[str, Timing]:
    """Time the rounds of several implementations, alternating between them: A B C, A B C, ...

    Each implementation has its own process, because the thread pools and allocators of two
    frameworks interfere. All are built before the first timed round, and only one process computes
    at a time from then on.

    Args:
        implementations: functions that build a workload, by name.
        rounds: number of timed rounds of each implementation.

    Returns:
        Measurements of the implementations that could be built. The process of an implementation
        that could not be built prints its traceback.
    """
    context = multiprocessing.get_context("spawn")
    pipes: dict[str, Any] = {}
    processes, first_round = [], {}
    names, builds = list(implementations), max(1, mesh.available_cpus() // CORES_PER_BUILD)
    for names_built in (names[n : n + builds] for n in range(0, len(names), builds)):
        for name in names_built:
            pipes[name], child = context.Pipe()
            args = (implementations[name], child, time.monotonic())
            processes.append(context.Process(target=_serve, args=args, daemon=True))
            processes[-1].start()
            child.close()  # so that `recv` raises EOFError if the process dies
        for name in names_built:
            with contextlib.suppress(EOFError):
                first_round[name] = pipes[name].recv()
    seconds: dict[str, list[float]] = {name: [] for name in first_round}
    for _ in range(rounds):
        for name, values in seconds.items():
            pipes[name].send(True)
            values.append(pipes[name].recv())
    timings = {}
    for name, values in seconds.items():
        pipes[name].send(False)
        timings[name] = Timing(first_round[name], values, pipes[name].recv())
    for process in processes:
        process.terminate()
        process.join()  # so that its memory is free for the next benchmark
    return timings


def _serve(implementation: Implementation, pipe: Any, start: float) -> None:
    allocator.configure_malloc()  # the same allocator settings for every implementation
    workload = implementation()
    workload.run()
    pipe.send(time.monotonic() - start)
    while pipe.recv():
        start = time.perf_counter()
        workload.run()
        pipe.send(time.perf_counter() - start)
    pipe.send(_resources(workload))


def _resources(workload: Workload) -> Resources:
    peak_bytes = _peak_bytes()  # before the following products
    if not (programs := workload.trace()):
        return Resources(peak_bytes)
    from training import flops

    return Resources(peak_bytes, sum(flops.count(*x) for x in programs), flops.peak())


def _peak_bytes() -> int:
    """Return the peak memory of this process: of its GPU or TPU, or the resident set size."""
    if torch := sys.modules.get("torch"):
        if torch.cuda.is_available():
            return torch.cuda.max_memory_allocated()
    else:
        import jax

        if stats := jax.local_devices()[0].memory_stats():
            return stats["peak_bytes_in_use"]
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def call_in_process(function: Callable[[], Any]) -> Any:
    """Return the result of a function that runs in a process of its own.

    This process does not start a JAX backend, which would hold memory of the GPU.
    """
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
        return pool.submit(function).result()


def median_ratio(numerators: Sequence[float], denominators: Sequence[float]) -> float:
    """Return the median over rounds of the ratio of two durations."""
    return statistics.median(a / b for a, b in zip(numerators, denominators, strict=True))


def spread(seconds: Sequence[float]) -> float:
    """Return the interquartile range of durations, relative to their median."""
    if len(seconds) < 2:
        return 0.0
    low, median, high = statistics.quantiles(seconds, n=4, method="inclusive")
    return (high - low) / median


def summarize(benchmark: Benchmark, timings: Mapping[str, Timing]) -> dict[str, Any]:
    """Return the JSON object of a benchmark.

    For every implementation, `ratio` is the speed of 'ours' divided by its own speed, the median
    over rounds.
    """
    ours = timings["ours"].seconds

    def entry(timing: Timing) -> dict[str, float]:
        median, resources = statistics.median(timing.seconds), timing.resources
        known = {"flops_utilization": resources.flops / median / resources.peak_flops}
        return {
            "throughput": benchmark.items / median,
            "ratio": median_ratio(timing.seconds, ours),
            "spread": spread(timing.seconds),
            "first_round_seconds": timing.first_round,
            "peak_bytes": resources.peak_bytes,
        } | (known if resources.flops else {})

    return {
        "name": benchmark.name,
        "unit": benchmark.unit,
        "rounds": len(ours),
        "implementations": {name: entry(timing) for name, timing in timings.items()},
    }
