"""Overhead of the training loop over the bare jitted step: `python -m benchmarks.loop`.

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

import jax
import numpy as np

import tasks
from benchmarks import timing
from configs import transformer_nmt
from training import allocator, flops, mesh
from training.checkpoints import Checkpoints
from training.console import Console
from training.loop import Trainer
from training.profiler import Profiler

STEPS, ROUNDS = 30, 14
WARMUP_STEPS = 60  # enough to compile the step for every batch shape


def main() -> None:
    """Print the overhead in percent and the JSON line."""
    allocator.configure_malloc()
    config = transformer_nmt.get_config()
    checkpoint_every = config.train.checkpoint_every
    config.optimizer.steps = config.train.steps  # the cosine schedule of a full run
    config.train.update(steps=0, eval_every=10**9, checkpoint_every=10**9)
    with tempfile.TemporaryDirectory() as workdir:
        devices = mesh.make_mesh(**config.mesh)
        task = tasks.build(config, workdir)
        console = Console(WARMUP_STEPS + STEPS * ROUNDS, task.unit)
        checkpoints = Checkpoints.from_config(workdir, config.train)
        trainer = Trainer(task, config, workdir, devices, console, checkpoints)
        with console.progress(0, flops.peak()):
            seconds, tokens = time_rounds(trainer)
            save = statistics.median(save_seconds(trainer, checkpoints) for _ in range(3))
        checkpoints.close()
    bare_step = float(np.sum(seconds["bare"])) / (STEPS * ROUNDS)
    saving = save / checkpoint_every / bare_step  # as a fraction of a bare step
    ours = tokens / (np.asarray(seconds["loop"]) + saving * np.asarray(seconds["bare"]))
    peer = tokens / np.asarray(seconds["bare"])
    low, median, high = np.quantile(ours / peer, (0.25, 0.5, 0.75))
    print(
        f"Overhead of the loop: {1 - median:.1%} (interquartile range {1 - high:.1%} to "
        f"{1 - low:.1%}), including {saving:.1%} for saving."
    )
    timing.report(
        "loop",
        float(np.sum(tokens) / np.sum(tokens / ours)),
        float(np.sum(tokens) / np.sum(tokens / peer)),
        "tokens/s",
        float(median),
        quartiles=[float(low), float(high)],
        rounds=ROUNDS,
    )


def time_rounds(trainer: Trainer) -> tuple[dict[str, list[float]], np.ndarray]:
    """Return the seconds of both in each round, and the number of target tokens of each round."""
    streams = [trainer.task.batches("train", 0) for _ in range(2)]
    trainer.task.batches = lambda split, step: streams[0]
    trainer.checkpoints = SimpleNamespace(save=lambda *_: None)
    seconds: dict[str, list[float]] = {"loop": [], "bare": []}
    tokens = []
    for n in range(ROUNDS + 1):
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


def time_loop(trainer: Trainer, steps: int) -> float:
    """Return the seconds of the next steps in the loop of `train.py`."""
    start = time.perf_counter()
    trainer.config.train.steps += steps
    trainer.train(lambda step: 0, Profiler("", 0, print))
    jax.block_until_ready(trainer.state)
    return time.perf_counter() - start


def time_bare_steps(trainer: Trainer, batches: list) -> float:
    """Return the seconds of the jitted step on batches that are already on the devices."""
    sharded = [mesh.shard_batch(batch, trainer.mesh) for batch in batches]
    start = time.perf_counter()
    for n, batch in enumerate(sharded):
        step, _ = trainer.compile(batch)
        trainer.state, metrics = step(trainer.state, batch, trainer.key, np.int32(n))
    jax.block_until_ready(metrics)
    return time.perf_counter() - start


def save_seconds(trainer: Trainer, checkpoints: Checkpoints) -> float:
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


if __name__ == "__main__":
    main()
