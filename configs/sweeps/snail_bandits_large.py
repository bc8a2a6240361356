"""Many arms and long trials, SNAIL and RL²: further rows of table 3 of Mishra et al. 2018.

N pulls of K arms; printed are rewards of SNAIL with their confidence intervals, and of RL²:

    10, 50: 6.7 +- 0.1, 6.8; 100, 5: 79.1 +- 1.0, 78.7; 100, 10: 83.5 +- 0.8, 83.5;
    100, 50: 85.1 +- 0.6, 84.9.

    python sweep.py --sweep=configs/sweeps/snail_bandits_large.py --parallel=2

Sized for one GPU, on which many runs share: 24 runs, each of a few minutes if it had it alone.
"""

from functools import partial

from configs.sweeps import snail_bandits_short
from configs.sweeps.snail_bandits_short import METRICS, figure

__all__ = ["METRICS", "figure", "runs"]

PRINTED = {  # of SNAIL and RL²
    (10, 50): (6.7, 6.8),
    (100, 5): (79.1, 78.7),
    (100, 10): (83.5, 83.5),
    (100, 50): (85.1, 84.9),
}
LONG = {
    "ppo.minibatches": 10,
    "evaluated.dev": 1_000,
    "evaluated.test": 5_000,
    "train.steps": 250,
}

runs = partial(snail_bandits_short.runs, PRINTED, {100: LONG})
