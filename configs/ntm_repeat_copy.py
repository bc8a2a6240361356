"""The Neural Turing Machine learns to copy so many times.

Paper: Graves et al. 2014, "Neural Turing Machines", sec. 4.2, fig. 7 and 8: the cost falls to about
0 bits within 100,000 sequences, that of an LSTM within 300,000; longer sequences are repeated as
well, more repeats than ten are not counted. The vectors have six bits: see `RepeatCopy`.

    python train.py --config=configs/ntm_repeat_copy.py --workdir=runs/ntm_repeat_copy

Expected: `test/bits_per_sequence` 0.02. Of 20 vectors, ten times each, every second sequence is
without a mistake; more repeats than ten are not counted here either: results/ntm_tasks.

Sized for a laptop: a quarter of an hour on a CPU core. All else as in configs/ntm_copy.py.
"""

from ml_collections import ConfigDict

from configs import ntm_copy


def get_config(variant: str = "") -> ConfigDict:
    config = ntm_copy.get_config(variant)
    config.name = "ntm_repeat_copy"
    config.episodes = {
        "kind": "repeat_copy",
        "sizes": {"length": (1, 10), "repeats": (1, 10)},
        "splits": {
            "test": {"length": (1, 10), "repeats": (1, 10)},
            "test_length_20": {"length": (20, 20), "repeats": (10, 10)},
            "test_repeats_20": {"length": (10, 10), "repeats": (20, 20)},
        },
        "evaluated": 640,
    }
    if variant == "smoke":
        small = {"length": (1, 2), "repeats": (1, 2)}
        config.episodes.update(sizes=small, evaluated=4)
        config.episodes.splits = dict.fromkeys(config.episodes.splits, small)
    else:
        config.train.steps = 30_000
    return config
