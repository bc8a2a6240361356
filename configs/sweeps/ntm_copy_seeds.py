"""Does a Neural Turing Machine learn to copy whatever the dice? Ten seeds of `ntm_copy`.

Graves et al. 2014 do not say how often training fails; others have had much trouble with it
(Collier & Beel 2018). See configs/ntm_copy.py for what makes it reliable.

    python sweep.py --sweep=configs/sweeps/ntm_copy_seeds.py --parallel=2

Sized for a laptop: minutes a run on two CPU cores, 10 runs.
"""

from functools import partial

from training.plots import bars
from training.sweeps import Run

METRICS = ("test/bits_per_sequence", "test_20/wrong_bits", "test_120/wrong_bits")


def runs():
    for seed in range(10):
        yield Run(config="configs/ntm_copy.py", labels={"seed": seed}, overrides={"seed": seed})


figure = partial(bars, metrics=METRICS)
