"""SNAIL and RL² on bandits with ten pulls: the first rows of table 3 of Mishra et al. 2018.

N pulls of K arms: N = 10 with K = 5, 10 and 50. The paper's confidence intervals of SNAIL are
+- 0.1. The other rows are in snail_bandits_large.py.

    python sweep.py --sweep=configs/sweeps/snail_bandits_short.py --parallel=2

Sized for a laptop: 18 runs of a few minutes on two CPU cores.
"""

from collections.abc import Iterable
from functools import partial
from typing import Any

from configs.papers import printed
from configs.papers.mishra2018 import BANDITS
from training.plots import metric_bars
from training.sweeps import Run

MODELS = {"SNAIL": "TC(32) TC(32) Att(32,32)", "RL²": "GRU(256)"}
METRICS = ("test/reward", "test/reward_gittins", "test/reward_ucb1")


def runs(lengths: Iterable[int] = (10,), overrides: dict[int, dict[str, Any]] | None = None):
    """Yield the runs of a part of the table.

    Args:
        lengths: numbers of pulls.
        overrides: additional config overrides by number of pulls.
    """
    cells = [cell for cell in BANDITS if cell[0] in lengths]
    for seed in range(3):
        for pulls, arms in cells:
            for model, blocks in MODELS.items():
                cell = f"mishra2018/table 3/N = {pulls}, K = {arms}"
                rows = (f"{cell}, {model}",) + (f"{cell}, references",) * (model == "SNAIL")
                sizes = {"environment.sizes.arms": arms, "environment.sizes.pulls": pulls}
                yield Run(
                    config="configs/snail_bandits.py",
                    labels={"N": pulls, "K": arms, "model": model, "seed": seed},
                    overrides=sizes
                    | {"model.blocks": blocks, "seed": seed}
                    | (overrides or {}).get(pulls, {}),
                    rows=rows,
                    paper=printed(rows),
                )


figure = partial(metric_bars, metrics=METRICS)
