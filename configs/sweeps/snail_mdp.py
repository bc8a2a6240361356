"""Markov decision processes, SNAIL and RL²: table 4 of Mishra et al. 2018, N = 10, 25 and 50.

Printed are parts of what value iteration earns; of which, configs/snail_mdp.py says.

    10: 0.766 +- 0.001 of SNAIL, 0.752 of RL²; 25: 0.862 +- 0.001, 0.859; 50: 0.908 +- 0.003, 0.902.

    python sweep.py --sweep=configs/sweeps/snail_mdp.py --parallel=2

The network is the paper's, not the smaller one of configs/snail_mdp.py, and a batch has 40,000
actions. Sized for one GPU, on which many runs share: 18 runs, each of some minutes if it had it
alone.
"""

from functools import partial

from training.plots import bars
from training.sweeps import Run

PRINTED = {10: (0.766, 0.752), 25: (0.862, 0.859), 50: (0.908, 0.902)}  # of SNAIL and RL²
STEPS = {10: 1_200, 25: 700, 50: 700}
MODELS = {"SNAIL": "TC(32) TC(32) Att(32,32)", "RL²": "GRU(256)"}
METRICS = ("test/normalised_discounted", "test/normalised", "test/reward")


def runs():
    for seed in range(3):
        for episodes, printed in PRINTED.items():
            for (model, blocks), part in zip(MODELS.items(), printed, strict=True):
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
                    paper={"test/normalised_discounted": part},
                )


figure = partial(bars, metrics=METRICS)
