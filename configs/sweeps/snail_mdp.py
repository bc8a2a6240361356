"""SNAIL and RL² on Markov decision processes: table 4 of Mishra et al. 2018.

N = 10, 25, 50, 75 and 100 episodes; rewards are normalized by value iteration, see
configs/snail_mdp.py. The paper's confidence intervals of SNAIL are at most +- 0.003.

    python sweep.py --sweep=configs/sweeps/snail_mdp.py --parallel=2

The model is the paper's, not the smaller one of configs/snail_mdp.py, and a batch contains at least
37,500 actions. The runs with 50 episodes and more have not been trained yet.

Sized for one GPU shared by many runs: 30 runs; with 10 and 25 episodes, a few minutes each on an
idle GPU.
"""

from functools import partial

from configs.papers import printed
from configs.papers.mishra2018 import MDPS
from configs.sweeps.snail_bandits_short import MODELS
from training.plots import metric_bars
from training.sweeps import Run

STEPS = {10: 1_200}  # otherwise 700
METRICS = ("test/normalized_discounted", "test/normalized", "test/reward")


def runs():
    for seed in range(3):
        for episodes in MDPS:
            for model, blocks in MODELS.items():
                cell = f"mishra2018/table 4/N = {episodes}"
                rows = (f"{cell}, {model}",) + (f"{cell}, references",) * (model == "SNAIL")
                yield Run(
                    config="configs/snail_mdp.py",
                    labels={"N": episodes, "model": model, "seed": seed},
                    overrides={
                        "environment.sizes.episodes": episodes,
                        "batch": 4_000 // episodes // 10 * 10,  # ten minibatches
                        "train.steps": STEPS.get(episodes, 700),
                        "model.blocks": blocks,
                        "seed": seed,
                    },
                    rows=rows,
                    paper=printed(rows),
                )


figure = partial(metric_bars, metrics=METRICS)
