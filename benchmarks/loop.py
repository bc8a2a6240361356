"""What the loop costs beside its bare jitted step: `python -m benchmarks.loop`.

The run is that of configs/transformer_nmt.py. The loop reads, places and logs as `train.py` does;
the bare step gets the same batches, already placed. Both take turns in one process, each first in
every other round, and a round compares the two on the same batches: rounds differ in work, and the
machine in speed from one minute to the next, so turns are short and many. What a turn of the loop
would do at its start and end, but a run does now and then, is left out of the turns: the data is
opened once, and what a save costs is taken by itself and spread over the steps between two.
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
from benchmarks import race
from configs import transformer_nmt
from training import allocator, flops, mesh
from training.checkpoints import Checkpoints
from training.console import Console
from training.loop import Trainer

STEPS, ROUNDS = 30, 14
WARM = 60  # steps, in which every shape of batch is met and compiled


def main() -> None:
    """Prints the loss of speed in percent and the line of JSON."""
    allocator.configure_malloc()
    config = transformer_nmt.get_config()
    between_saves = config.train.checkpoint_every
    config.optimizer.steps = config.train.steps  # where the cosine ends, whatever is timed
    config.train.update(steps=0, eval_every=10**9, checkpoint_every=10**9)
    with tempfile.TemporaryDirectory() as workdir:
        devices = mesh.make_mesh(**config.mesh)
        task = tasks.build(config, workdir)
        console = Console(WARM + STEPS * ROUNDS, task.unit)
        checkpoints = Checkpoints.of(workdir, config.train)
        trainer = Trainer(task, config, workdir, devices, console, checkpoints)
        with console.training(0, flops.peak()):
            seconds, tokens = race_turns(trainer)
            save = statistics.median(cost_of_saving(trainer, checkpoints) for _ in range(3))
        checkpoints.close()
    bare = float(np.sum(seconds["bare"])) / (STEPS * ROUNDS)
    saving = save / between_saves / bare  # in bare steps
    ours = tokens / (np.asarray(seconds["loop"]) + saving * np.asarray(seconds["bare"]))
    peer = tokens / np.asarray(seconds["bare"])
    low, speed, high = np.quantile(ours / peer, (0.25, 0.5, 0.75))
    print(
        f"The loop loses {1 - speed:.1%} (half of the rounds: {1 - high:.1%} to {1 - low:.1%}), "
        f"of which {saving:.1%} by saving."
    )
    race.report(
        "loop",
        float(np.sum(tokens) / np.sum(tokens / ours)),
        float(np.sum(tokens) / np.sum(tokens / peer)),
        "tokens/s",
        float(speed),
        quartiles=[float(low), float(high)],
        rounds=ROUNDS,
    )


def race_turns(trainer: Trainer) -> tuple[dict[str, list[float]], np.ndarray]:
    """Seconds of every turn of both, and target tokens of every round."""
    streams = [trainer.task.batches("train", 0) for _ in range(2)]
    trainer.task.batches = lambda split, step: streams[0]
    trainer.checkpoints = SimpleNamespace(save=lambda *_: None)
    seconds: dict[str, list[float]] = {"loop": [], "bare": []}
    tokens = []
    for n in range(ROUNDS + 1):
        steps = STEPS if n else WARM
        batches = list(itertools.islice(streams[1], steps))
        tokens.append(sum(int((batch["target"] > 0).sum()) for batch in batches))
        turns = {"loop": partial(loop, trainer, steps), "bare": partial(bare, trainer, batches)}
        for name in sorted(turns, reverse=bool(n % 2)):
            seconds[name].append(turns[name]())
    return {name: times[1:] for name, times in seconds.items()}, np.asarray(tokens[1:])


def loop(trainer: Trainer, steps: int) -> float:
    """Seconds of the next steps as `train.py` makes them."""
    start = time.perf_counter()
    trainer.config.train.steps += steps
    trainer.train(lambda step: 0)
    jax.block_until_ready(trainer.state)
    return time.perf_counter() - start


def bare(trainer: Trainer, batches: list) -> float:
    """Seconds of the same steps without the loop."""
    placed = [mesh.shard_batch(batch, trainer.mesh) for batch in batches]
    start = time.perf_counter()
    for n, batch in enumerate(placed):
        step, _ = trainer.compile(batch)
        trainer.state, metrics = step(trainer.state, batch, trainer.key, np.int32(n))
    jax.block_until_ready(metrics)
    return time.perf_counter() - start


def cost_of_saving(trainer: Trainer, checkpoints: Checkpoints) -> float:
    """Seconds that a checkpoint takes from the steps.

    These wait until it is copied; while it is written they go on, but share the cores with it.
    """
    trainer.step += 1  # what is saved already is not saved again
    start, cpu_start = time.perf_counter(), time.process_time()
    checkpoints.save(trainer.step, trainer.state, trainer.key, trainer.seconds())
    copying = time.perf_counter() - start
    checkpoints.wait()
    cores = mesh.available_cpus()
    return max(copying, (time.process_time() - cpu_start) / cores)


if __name__ == "__main__":
    main()
