"""The Neural Turing Machine learns to count: the next bit of sequences with a table of their own.

Paper: Graves et al. 2014, "Neural Turing Machines", sec. 4.4 and fig. 13: of 200 bits, about 133 to
134 with a memory, 137 of an LSTM, 131 to 132 of the optimal estimator. The last has
`test/optimal_bits` here.

    python train.py --config=configs/ntm_ngrams.py --workdir=runs/ntm_ngrams

Expected: `test/bits_per_sequence` 135.3, where the optimal estimator has 133.9: results/ntm_tasks.

Sized for a laptop: a quarter of an hour on a CPU core. All else as in configs/ntm_copy.py.
"""

from ml_collections import ConfigDict

from configs import ntm_copy


def get_config(variant: str = "") -> ConfigDict:
    config = ntm_copy.get_config(variant)
    config.name = "ntm_ngrams"
    sizes = {"length": (8, 8) if variant == "smoke" else (200, 200)}
    config.episodes = {
        "kind": "ngrams",
        "sizes": sizes,
        "splits": {"test": sizes},
        "evaluated": 4 if variant == "smoke" else 1000,
    }
    if variant != "smoke":
        config.optimizer.peak = 1e-3
        config.train.steps = 10_000
    return config
