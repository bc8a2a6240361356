"""SNAIL and RL² on bandits with ten pulls: the first rows of table 3 of Mishra et al. 2018.

The paper reports 6.6 +- 0.1 for SNAIL and 6.7 for RL² with 5 arms, and 6.7 +- 0.1 and 6.7 with 10.
The other rows are in snail_bandits_large.py.

    python sweep.py --sweep=configs/sweeps/snail_bandits_short.py --parallel=2

Sized for a laptop: 12 runs of a few minutes on two CPU cores.
"""

from functools import partial
from typing import Any

from training.plots import metric_bars
from training.sweeps import Run

PAPER = {  # (N, K): mean total reward of SNAIL and RL²
    (10, 5): (6.6, 6.7),
    (10, 10): (6.7, 6.7),
}
MODELS = {"SNAIL": "TC(32) TC(32) Att(32,32)", "RL²": "GRU(256)"}
METRICS = ("test/reward", "test/reward_gittins", "test/reward_ucb1")


def runs(table=PAPER, overrides: dict[int, dict[str, Any]] | None = None):
    """Yield the runs of a part of the table.

    Args:
        table: the paper's results by number of pulls and arms.
        overrides: additional config overrides by number of pulls.
    """
    for seed in range(3):
        for (pulls, arms), rewards in table.items():
            for (model, blocks), reward in zip(MODELS.items(), rewards, strict=True):
                sizes = {"environment.sizes.arms": arms, "environment.sizes.pulls": pulls}
                yield Run(
                    config="configs/snail_bandits.py",
                    labels={"N": pulls, "K": arms, "model": model, "seed": seed},
                    overrides=sizes
                    | {"model.blocks": blocks, "seed": seed}
                    | (overrides or {}).get(pulls, {}),
                    paper={"test/reward": reward},
                )


figure = partial(metric_bars, metrics=METRICS)
