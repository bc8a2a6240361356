"""Short trials of bandits, SNAIL and RL²: the first rows of table 3 of Mishra et al. 2018.

Ten pulls of K arms; printed are 6.6 +- 0.1 of SNAIL and 6.7 of RL² for 5 arms, 6.7 +- 0.1 and 6.7
for 10. The other rows are in snail_bandits_large.py.

    python sweep.py --sweep=configs/sweeps/snail_bandits_short.py --parallel=2

Sized for a laptop: minutes a run on two CPU cores, 12 runs.
"""

from functools import partial
from typing import Any

from training.plots import bars
from training.sweeps import Run

PRINTED = {  # of SNAIL and RL²
    (10, 5): (6.6, 6.7),
    (10, 10): (6.7, 6.7),
}
MODELS = {"SNAIL": "TC(32) TC(32) Att(32,32)", "RL²": "GRU(256)"}
METRICS = ("test/reward", "test/reward_gittins", "test/reward_ucb1")


def runs(table=PRINTED, more: dict[int, dict[str, Any]] | None = None):
    """Of a part of the table; `more` are overrides for trials of so many pulls."""
    for seed in range(3):
        for (pulls, arms), printed in table.items():
            for (model, blocks), reward in zip(MODELS.items(), printed, strict=True):
                sizes = {"environment.sizes.arms": arms, "environment.sizes.pulls": pulls}
                yield Run(
                    config="configs/snail_bandits.py",
                    labels={"N": pulls, "K": arms, "model": model, "seed": seed},
                    overrides=sizes
                    | {"model.blocks": blocks, "seed": seed}
                    | (more or {}).get(pulls, {}),
                    paper={"test/reward": reward},
                )


figure = partial(bars, metrics=METRICS)
