"""SNAIL and RL² on long trials of bandits: further rows of table 3 of Mishra et al. 2018.

N pulls of K arms: N = 100 and 500 with K = 5, 10 and 50, and N = 1,000 with K = 50. The paper's
confidence intervals of SNAIL are +- 0.6 to 1.0 for 100 pulls, 2.5 to 4.9 for 500 and 5.6 for 1,000.

    python sweep.py --sweep=configs/sweeps/snail_bandits_large.py --parallel=2

A batch contains 100,000 pulls. Only SNAIL with 100 pulls of 5 and 10 arms has recorded results.

Sized for one GPU shared by many runs: 42 runs; with 100 pulls, a few minutes each on an idle GPU.
"""

from functools import partial

from configs.sweeps import snail_bandits_short
from configs.sweeps.snail_bandits_short import METRICS, figure

__all__ = ["METRICS", "figure", "runs"]

LONG_TRIALS = {"ppo.minibatches": 10, "train.steps": 250, "evaluation.dev_trials": 1_000}
OVERRIDES = {
    100: LONG_TRIALS | {"evaluation.test_trials": 5_000},
    500: LONG_TRIALS | {"batch": 200, "evaluation.test_trials": 2_000},
    1000: LONG_TRIALS | {"batch": 100, "evaluation.test_trials": 2_000},
}

runs = partial(snail_bandits_short.runs, OVERRIDES, OVERRIDES)
