"""Sensitivity of the Neural Turing Machine to the random seed: ten seeds of the copy task.

No printed row: Graves et al. 2014 do not report how often training fails. Collier & Beel 2018
report unstable training. This sweep uses their constant initial memory (`model.memory_init`).

    python sweep.py --sweep=configs/sweeps/ntm_copy_seeds.py --config.cpu_devices=1 --parallel=2

Sized for a laptop: 20 runs of two minutes on one CPU core.
"""

from functools import partial

from configs.papers.graves2014 import FEED_FORWARD, LSTM_CONTROLLER
from training.plots import metric_bars
from training.sweeps import Run

METRICS = ("test/bits_per_sequence", "test_20/bit_errors", "test_120/bit_errors")
# With the initial biases of configs/ntm_copy.py, the cost of most runs of this controller rises to
# that of random outputs after 1,000 to 2,000 steps.
OVERRIDES = {
    LSTM_CONTROLLER: {},
    FEED_FORWARD: {
        "model.controller": "feed_forward",
        "model.gate_bias": 0.0,
        "model.shift_bias": 0.0,
        "model.erase_bias": 0.0,
        "optimizer.clip": 10.0,
    },
}


def runs():
    for controller, overrides in OVERRIDES.items():
        for seed in range(10):
            yield Run(
                config="configs/ntm_copy.py",
                labels={"controller": controller, "seed": seed},
                overrides={**overrides, "seed": seed},
            )


figure = partial(metric_bars, metrics=METRICS)
