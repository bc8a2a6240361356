"""SNAIL and RL² on many arms and long trials: further rows of table 3 of Mishra et al. 2018.

Mean total rewards in the paper for N pulls of K arms, of SNAIL with confidence intervals, and of
RL²:

    10, 50: 6.7 +- 0.1, 6.8; 100, 5: 79.1 +- 1.0, 78.7; 100, 10: 83.5 +- 0.8, 83.5;
    100, 50: 85.1 +- 0.6, 84.9.

    python sweep.py --sweep=configs/sweeps/snail_bandits_large.py --parallel=2

Sized for one GPU shared by many runs: 24 runs, each of a few minutes on an idle GPU.
"""

from functools import partial

from configs.sweeps import snail_bandits_short
from configs.sweeps.snail_bandits_short import METRICS, figure

__all__ = ["METRICS", "figure", "runs"]

PAPER = {  # (N, K): mean total reward of SNAIL and RL²
    (10, 50): (6.7, 6.8),
    (100, 5): (79.1, 78.7),
    (100, 10): (83.5, 83.5),
    (100, 50): (85.1, 84.9),
}
LONG_TRIALS = {
    "ppo.minibatches": 10,
    "evaluation.dev_trials": 1_000,
    "evaluation.test_trials": 5_000,
    "train.steps": 250,
}

runs = partial(snail_bandits_short.runs, PAPER, {100: LONG_TRIALS})
