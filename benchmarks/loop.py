"""Overhead of the training loop over the bare jitted step.

The workloads are configs of all systems whose data are generated. The loop reads, transfers and
logs batches as `train.py` does; the bare step receives the same batches, already on the devices.
The two alternate in one process, in short rounds, and the order alternates as well, because the
work differs between batches and the speed of the machine drifts. Each round compares the two on the
same batches. Setup is not timed: the data is opened once. The cost of saving is measured separately
and divided by the number of steps between two checkpoints.
"""

import importlib
import itertools
import statistics
import tempfile
import time
from functools import partial
from types import SimpleNamespace
from typing import Any

import jax
import numpy as np

from benchmarks.timing import call_in_process
from benchmarks.workloads import Measurement
from training import allocator, flops, mesh
from training.console import Console
from training.profiler import Profiler

CONFIGS = (
    "transformer_nmt",
    "seq2seq_nmt",
    "ntm_copy",
    "ptrnet_tsp",
    "snail_bandits",
    "snail_fewshot",
    "sagan_digits",
    "captioning_scenes",
)
WARMUP_STEPS = 60  # enough to compile the step for every batch shape
ROUND_SECONDS, LEAST_STEPS = 1.5, 10


def measure(rounds: int) -> list[dict[str, Any]]:
    """Measure each config in a process of its own, with the number of devices in the config."""
    return [call_in_process(partial(measure_overhead, name, rounds)) for name in CONFIGS]


def measure_overhead(name: str, rounds: int) -> dict[str, Any]:
    """Measure the time of both, and the time that the loop adds to a bare step."""
    import tasks
    from training.checkpoints import Checkpoints
    from training.loop import Trainer

    allocator.configure_malloc()
    config = importlib.import_module(f"configs.{name}").get_config()
    mesh.set_cpu_device_count(config.cpu_devices)
    checkpoint_every = config.train.checkpoint_every
    with tempfile.TemporaryDirectory() as workdir:
        devices = mesh.make_mesh(**config.mesh)
        task = tasks.build(config.copy_and_resolve_references(), workdir)  # schedules of a full run
        config.train.update(steps=0, eval_every=10**9, checkpoint_every=10**9)
        console = Console(10**9, task.unit, quiet=True)
        checkpoints = Checkpoints.from_config(workdir, config.train)
        trainer = Trainer(task, config, workdir, devices, console, checkpoints)
        with console.progress(0, flops.peak()):
            steps, seconds = time_rounds(trainer, rounds)
            save = statistics.median(save_seconds(trainer, checkpoints) for _ in range(3))
        checkpoints.close()
    bare, loop = (np.asarray(seconds[name]) for name in ("bare", "loop"))
    saving = save / checkpoint_every / np.median(bare / steps)  # part of a bare step
    low, median, high = np.quantile(loop / bare + saving - 1, (0.25, 0.5, 0.75))
    return {
        "config": name,
        "ms of the loop": 1e3 * float(np.median(loop / steps)),
        "ms of the bare step": 1e3 * float(np.median(bare / steps)),
        "overhead": f"{median:.1%}",
        "overhead, quartiles": f"{low:.1%} to {high:.1%}",
        "part of saving": f"{saving:.1%}",
    }


def time_rounds(trainer: Any, rounds: int) -> tuple[int, dict[str, list[float]]]:
    """Return the number of steps of a round, and the seconds of both in each round."""
    streams = [trainer.task.batches("train", 0) for _ in range(2)]
    trainer.task.batches = lambda split, step: streams[0]
    trainer.checkpoints = SimpleNamespace(save=lambda *_: None)

    def time_both(steps, reverse):
        batches = list(itertools.islice(streams[1], steps))
        timed = {
            "loop": partial(time_loop, trainer, steps),
            "bare": partial(time_bare_steps, trainer, batches),
        }
        return {name: timed[name]() for name in sorted(timed, reverse=reverse)}

    time_both(WARMUP_STEPS, reverse=False)
    warm = time_both(LEAST_STEPS, reverse=False)
    steps = max(LEAST_STEPS, round(ROUND_SECONDS / (warm["bare"] / LEAST_STEPS)))
    results = [time_both(steps, reverse=bool(n % 2)) for n in range(rounds)]
    return steps, {name: [result[name] for result in results] for name in warm}


def time_loop(trainer: Any, steps: int) -> float:
    """Return the seconds of the next steps in the loop of `train.py`."""
    start = time.perf_counter()
    trainer.config.train.steps += steps
    trainer.train(lambda step: 0, Profiler("", 0, print))
    jax.block_until_ready(trainer.state)
    return time.perf_counter() - start


def time_bare_steps(trainer: Any, batches: list) -> float:
    """Return the seconds of the jitted step on batches that are already on the devices.

    As in the loop, at most two steps are in flight: with many, several CPU devices can wait for
    each other forever.
    """
    sharded = [mesh.shard_batch(batch, trainer.mesh) for batch in batches]
    start, previous = time.perf_counter(), None
    for n, batch in enumerate(sharded):
        step, _ = trainer.compile(batch)
        trainer.state, metrics = step(trainer.state, batch, trainer.key, np.int32(n))
        jax.block_until_ready(previous)
        previous = metrics
    jax.block_until_ready(previous)
    return time.perf_counter() - start


def save_seconds(trainer: Any, checkpoints: Any) -> float:
    """Return the seconds that one checkpoint delays training.

    Training waits while the state is copied. The write is asynchronous, but uses CPU time.
    """
    trainer.step += 1  # a step that is already saved is not saved again
    start, cpu_start = time.perf_counter(), time.process_time()
    checkpoints.save(trainer.step, trainer.state, trainer.key, trainer.seconds())
    copying = time.perf_counter() - start
    checkpoints.wait()
    cores = mesh.available_cpus()
    return max(copying, (time.process_time() - cpu_start) / cores)


def declare(quick: bool) -> list[Measurement]:
    """Return the measurement."""
    return [Measurement("loop", partial(measure, 2 if quick else 12))]
