"""Sensitivity of the Neural Turing Machine to the random seed: ten seeds of `ntm_copy`.

No printed row: Graves et al. 2014 do not report how often training fails. Collier & Beel 2018
report unstable training. This sweep uses their constant initial memory (`model.memory_init`).

    python sweep.py --sweep=configs/sweeps/ntm_copy_seeds.py --parallel=2

Sized for a laptop: 10 runs of two minutes on one CPU core.
"""

from functools import partial

from training.plots import metric_bars
from training.sweeps import Run

METRICS = ("test/bits_per_sequence", "test_20/bit_errors", "test_120/bit_errors")


def runs():
    for seed in range(10):
        yield Run(config="configs/ntm_copy.py", labels={"seed": seed}, overrides={"seed": seed})


figure = partial(metric_bars, metrics=METRICS)
