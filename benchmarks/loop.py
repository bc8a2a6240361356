"""Overhead of the training loop over the bare jitted step.

The workload is configs/transformer_nmt.py. The loop reads, transfers and logs batches as `train.py`
does; the bare step receives the same batches, already on the devices. The two alternate in one
process, in short rounds, and the order alternates as well, because the work differs between batches
and the speed of the machine drifts. Each round compares the two on the same batches. Setup is not
timed: the data is opened once. The cost of saving is measured separately and divided by the number
of steps between two checkpoints.
"""

import itertools
import statistics
import tempfile
import time
from functools import partial
from types import SimpleNamespace
from typing import Any

import jax
import numpy as np

from benchmarks.workloads import Measurement
from configs import transformer_nmt
from training import allocator, flops, mesh
from training.console import Console
from training.profiler import Profiler

STEPS = 30  # of a round
WARMUP_STEPS = 60  # enough to compile the step for every batch shape


def measure_overhead(rounds: int) -> list[dict[str, Any]]:
    """Measure the throughput of both, and the time that the loop adds to a bare step."""
    import tasks
    from training.checkpoints import Checkpoints
    from training.loop import Trainer

    allocator.configure_malloc()
    config = transformer_nmt.get_config()
    checkpoint_every = config.train.checkpoint_every
    config.optimizer.steps = config.train.steps  # the cosine schedule of a full run
    config.train.update(steps=0, eval_every=10**9, checkpoint_every=10**9)
    with tempfile.TemporaryDirectory() as workdir:
        devices = mesh.make_mesh(**config.mesh)
        task = tasks.build(config, workdir)
        console = Console(WARMUP_STEPS + STEPS * rounds, task.unit, quiet=True)
        checkpoints = Checkpoints.from_config(workdir, config.train)
        trainer = Trainer(task, config, workdir, devices, console, checkpoints)
        with console.progress(0, flops.peak()):
            seconds, tokens = time_rounds(trainer, rounds)
            save = statistics.median(save_seconds(trainer, checkpoints) for _ in range(3))
        checkpoints.close()
    bare, loop = (np.asarray(seconds[name]) for name in ("bare", "loop"))
    saving = save / checkpoint_every / (bare.sum() / (STEPS * rounds))  # part of a bare step
    low, median, high = np.quantile(loop / bare + saving - 1, (0.25, 0.5, 0.75))
    return [
        {
            "tokens/s of the loop": tokens.sum() / loop.sum(),
            "tokens/s of the bare step": tokens.sum() / bare.sum(),
            "overhead": median,
            "overhead, quartiles": f"{low:.4f} to {high:.4f}",
            "part of saving": saving,
        }
    ]


def time_rounds(trainer: Any, rounds: int) -> tuple[dict[str, list[float]], np.ndarray]:
    """Return the seconds of both in each round, and the number of target tokens of each round."""
    streams = [trainer.task.batches("train", 0) for _ in range(2)]
    trainer.task.batches = lambda split, step: streams[0]
    trainer.checkpoints = SimpleNamespace(save=lambda *_: None)
    seconds: dict[str, list[float]] = {"loop": [], "bare": []}
    tokens = []
    for n in range(rounds + 1):
        steps = STEPS if n else WARMUP_STEPS
        batches = list(itertools.islice(streams[1], steps))
        tokens.append(sum(int((batch["target"] > 0).sum()) for batch in batches))
        timed = {
            "loop": partial(time_loop, trainer, steps),
            "bare": partial(time_bare_steps, trainer, batches),
        }
        for name in sorted(timed, reverse=bool(n % 2)):
            seconds[name].append(timed[name]())
    return {name: times[1:] for name, times in seconds.items()}, np.asarray(tokens[1:])


def time_loop(trainer: Any, steps: int) -> float:
    """Return the seconds of the next steps in the loop of `train.py`."""
    start = time.perf_counter()
    trainer.config.train.steps += steps
    trainer.train(lambda step: 0, Profiler("", 0, print))
    jax.block_until_ready(trainer.state)
    return time.perf_counter() - start


def time_bare_steps(trainer: Any, batches: list) -> float:
    """Return the seconds of the jitted step on batches that are already on the devices."""
    sharded = [mesh.shard_batch(batch, trainer.mesh) for batch in batches]
    start = time.perf_counter()
    for n, batch in enumerate(sharded):
        step, _ = trainer.compile(batch)
        trainer.state, metrics = step(trainer.state, batch, trainer.key, np.int32(n))
    jax.block_until_ready(metrics)
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
    return [Measurement("loop", partial(measure_overhead, 2 if quick else 14))]
