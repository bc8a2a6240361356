"""The Neural Turing Machine learns to sort by priority.

Paper: Graves et al. 2014, "Neural Turing Machines", sec. 4.5 and fig. 18: of 20 vectors the 16
highest, at about 10 to 20 bits after a million sequences, where an LSTM needs about 50.

    python train.py --config=configs/ntm_sort.py --workdir=runs/ntm_sort

Expected: `test/bits_per_sequence` 38 after 960,000 sequences: results/ntm_sort. After a third of
them it is 69, and 51 with the feed-forward controller of configs/sweeps/ntm_tasks.py.

Sized for a laptop: an hour on a CPU core. All else as in configs/ntm_copy.py.
"""

from ml_collections import ConfigDict

from configs import ntm_copy


def get_config(variant: str = "") -> ConfigDict:
    config = ntm_copy.get_config(variant)
    config.name = "ntm_sort"
    sizes = {"items": (20, 20), "kept": (16, 16)}
    if variant == "smoke":
        sizes = {"items": (3, 3), "kept": (2, 2)}
    else:
        config.model.update(layers=2, heads=5)
        config.optimizer.peak = 1e-3
        config.train.update(steps=60_000, eval_every=2_000, checkpoint_every=2_000)
    config.episodes = {
        "kind": "sort",
        "sizes": sizes,
        "splits": {"test": sizes},
        "evaluated": 4 if variant == "smoke" else 640,
    }
    return config
