"""SNAIL and RL² in small and large mazes, after table 5 of Mishra et al. 2018.

The paper's mazes are three-dimensional, so its numbers of steps are not comparable (column
`maze_3d`). Two findings are comparable: the second episode takes fewer steps than the first, and
SNAIL, RL² and the random policy have the paper's order. Here the mazes have 5 x 5 and 9 x 9 cells,
and an episode ends after 250 and 500 steps, which the paper does not state; its random policy needs
189 and 420.

    python sweep.py --sweep=configs/sweeps/snail_maze.py --parallel=2

Sized for one GPU shared by many runs: 12 runs. Not yet trained.
"""

from functools import partial

from configs.papers import printed
from configs.sweeps.snail_bandits_short import MODELS
from training.plots import metric_bars
from training.sweeps import Run

SIZES = {"small": (5, 250, 200), "large": (9, 500, 100)}  # cells, horizon, trials per batch
METRICS = ("test/steps_1", "test/steps_2", "test/steps_1_random", "test/steps_2_random")


def runs():
    for seed in range(3):
        for size, (cells, horizon, batch) in SIZES.items():
            for model, blocks in MODELS.items():
                cell = f"mishra2018/table 5/{size}"
                rows = (f"{cell}, {model}",) + (f"{cell}, references",) * (model == "SNAIL")
                yield Run(
                    config="configs/snail_maze.py",
                    labels={"maze": size, "model": model, "seed": seed},
                    overrides={
                        "environment.sizes.cells": cells,
                        "environment.sizes.horizon": horizon,
                        "batch": batch,
                        "ppo.minibatches": 10,
                        "model.blocks": blocks,
                        "seed": seed,
                    },
                    rows=rows,
                    paper=printed(rows),
                )


figure = partial(metric_bars, metrics=METRICS)
