"""The Neural Turing Machine learns which item came after the one it is shown.

Paper: Graves et al. 2014, "Neural Turing Machines", sec. 4.3, fig. 10 and 11: of 2 to 6 items, a
feed-forward controller of 256 with 4 heads is at about 0 bits after 30,000 sequences, an LSTM
controller after 100,000, an LSTM alone needs 1 to 2 bits after a million. Of 15 items the first
still needs less than 1 bit.

    python train.py --config=configs/ntm_recall.py --workdir=runs/ntm_recall

Expected: `test/bits_per_sequence` below 0.001, and of 20 items, which is three times as many as it
was trained on, 0.11 bits: results/ntm_tasks.

Sized for a laptop: a quarter of an hour on a CPU core. All else as in configs/ntm_copy.py.
"""

from ml_collections import ConfigDict

from configs import ntm_copy


def get_config(variant: str = "") -> ConfigDict:
    config = ntm_copy.get_config(variant)
    config.name = "ntm_recall"
    config.episodes = {
        "kind": "recall",
        "sizes": {"items": (2, 6)},
        "splits": {
            "test": {"items": (2, 6)},
            "test_6": {"items": (6, 6)},
            "test_8": {"items": (8, 8)},
            "test_10": {"items": (10, 10)},
            "test_12": {"items": (12, 12)},
            "test_15": {"items": (15, 15)},
            "test_20": {"items": (20, 20)},
        },
        "evaluated": 640,
    }
    if variant == "smoke":
        small = {"items": (2, 3)}
        config.episodes.update(sizes=small, evaluated=4)
        config.episodes.splits = dict.fromkeys(config.episodes.splits, small)
    else:
        config.model.update(controller="feed_forward", hidden=256, heads=4)
        config.optimizer.peak = 1e-3
        config.train.steps = 30_000
    return config
