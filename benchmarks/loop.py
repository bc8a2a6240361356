"""What the loop costs beside its bare jitted step: `python -m benchmarks.loop`.

The run is that of configs/transformer_nmt.py. The loop reads, places and logs as `train.py` does;
the bare step gets the same batches, already placed. Both take turns in one process.
"""

import itertools
import tempfile
import time

import jax
import numpy as np

import tasks
from benchmarks import race
from configs import transformer_nmt
from training import allocator, flops, mesh
from training.checkpoints import Checkpoints
from training.console import Console
from training.loop import Trainer

STEPS, ROUNDS = 50, 5


def main() -> None:
    """Prints the loss of speed in percent and the line of JSON."""
    allocator.keep_pages()
    config = transformer_nmt.get_config()
    config.train.update(steps=0, eval_every=10**9, checkpoint_every=10**9)
    with tempfile.TemporaryDirectory() as workdir:
        devices = mesh.make_mesh(**config.mesh)
        task = tasks.build(config, workdir)
        console = Console(STEPS * (ROUNDS + 1), task.unit)
        checkpoints = Checkpoints.of(workdir, config.train)
        trainer = Trainer(task, config, workdir, devices, console, checkpoints)
        seconds: dict[str, list[float]] = {"loop": [], "bare": []}
        with console.training(0, flops.peak()):
            for _ in range(ROUNDS + 1):
                batches = list(itertools.islice(task.batches("train", trainer.step), STEPS))
                start = time.perf_counter()
                config.train.steps += STEPS
                trainer.train([])
                jax.block_until_ready(trainer.state)
                seconds["loop"].append(time.perf_counter() - start)
                seconds["bare"].append(bare(trainer, batches))
        checkpoints.close()
    loop, steps = (times[1:] for times in seconds.values())  # the first round compiled
    tokens = sum(int((batch["target"] > 0).sum()) for batch in batches)
    speed = race.ratio(steps, loop)
    print(f"The loop is {1 - speed:.1%} slower than its bare step.")
    ours, peer = (tokens / float(np.median(times)) for times in (loop, steps))
    race.report("loop", ours, peer, "tokens/s", speed, rounds=ROUNDS)


def bare(trainer: Trainer, batches: list) -> float:
    """Seconds of the same steps without the loop."""
    placed = [mesh.shard_batch(batch, trainer.mesh) for batch in batches]
    start = time.perf_counter()
    for n, batch in enumerate(placed):
        step, _ = trainer.compile(batch)
        trainer.state, metrics = step(trainer.state, batch, trainer.key, np.int32(n))
    jax.block_until_ready(metrics)
    return time.perf_counter() - start


if __name__ == "__main__":
    main()
