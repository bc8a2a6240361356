"""What the loop costs beside its bare jitted step: `python -m benchmarks.loop`.

The run is that of configs/transformer_nmt.py. The loop reads, places and logs as `train.py` does;
the bare step gets the same batches, already placed. Both take turns in one process, each first in
every other round, and a round compares the two on the same batches: rounds differ in work, and the
machine in speed from one minute to the next.
"""

import itertools
import tempfile
import time
from functools import partial

import jax
import numpy as np

import tasks
from benchmarks import race
from configs import transformer_nmt
from training import allocator, flops, mesh
from training.checkpoints import Checkpoints
from training.console import Console
from training.loop import Trainer

STEPS, ROUNDS = 50, 6


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
        tokens: list[int] = []
        with console.training(0, flops.peak()):
            for n in range(ROUNDS + 1):
                batches = list(itertools.islice(task.batches("train", trainer.step), STEPS))
                tokens.append(sum(int((batch["target"] > 0).sum()) for batch in batches))
                turns = {"loop": partial(loop, trainer), "bare": partial(bare, trainer, batches)}
                for name in sorted(turns, reverse=bool(n % 2)):
                    seconds[name].append(turns[name]())
        checkpoints.close()
    # The first round compiled.
    ours, peer = (np.divide(tokens, times)[1:] for times in (seconds["loop"], seconds["bare"]))
    low, speed, high = np.quantile(ours / peer, (0.25, 0.5, 0.75))
    print(f"The loop loses {1 - speed:.1%} (half of the rounds: {1 - high:.1%} to {1 - low:.1%}).")
    race.report(
        "loop",
        float(np.median(ours)),
        float(np.median(peer)),
        "tokens/s",
        float(speed),
        quartiles=[float(low), float(high)],
        rounds=ROUNDS,
    )


def loop(trainer: Trainer) -> float:
    """Seconds of the next steps as `train.py` makes them."""
    start = time.perf_counter()
    trainer.config.train.steps += STEPS
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


if __name__ == "__main__":
    main()
