"""SNAIL and RL² on Markov decision processes: table 4 of Mishra et al. 2018, N = 10, 25 and 50.

Rewards in the paper for N episodes, normalized by value iteration (see configs/snail_mdp.py), of
SNAIL with confidence intervals, and of RL²:

    10: 0.766 +- 0.001, 0.752; 25: 0.862 +- 0.001, 0.859; 50: 0.908 +- 0.003, 0.902.

    python sweep.py --sweep=configs/sweeps/snail_mdp.py --parallel=2

The model is the paper's, not the smaller one of configs/snail_mdp.py, and a batch contains 40,000
actions. Sized for one GPU shared by many runs: 18 runs, each of a few minutes on an idle GPU.
"""

from functools import partial

from training.plots import metric_bars
from training.sweeps import Run

PAPER = {10: (0.766, 0.752), 25: (0.862, 0.859), 50: (0.908, 0.902)}  # SNAIL and RL²
STEPS = {10: 1_200, 25: 700, 50: 700}
MODELS = {"SNAIL": "TC(32) TC(32) Att(32,32)", "RL²": "GRU(256)"}
METRICS = ("test/normalized_discounted", "test/normalized", "test/reward")


def runs():
    for seed in range(3):
        for episodes, rewards in PAPER.items():
            for (model, blocks), reward in zip(MODELS.items(), rewards, strict=True):
                yield Run(
                    config="configs/snail_mdp.py",
                    labels={"N": episodes, "model": model, "seed": seed},
                    overrides={
                        "environment.sizes.episodes": episodes,
                        "batch": 4_000 // episodes,
                        "train.steps": STEPS[episodes],
                        "model.blocks": blocks,
                        "seed": seed,
                    },
                    paper={"test/normalized_discounted": reward},
                )


figure = partial(metric_bars, metrics=METRICS)
