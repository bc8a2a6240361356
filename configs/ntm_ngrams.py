"""Neural Turing Machine on dynamic n-grams.

Paper: Graves et al. 2014, "Neural Turing Machines", sec. 4.4 and fig. 13: for 200 bits, about 133
to 134 bits per sequence by the NTM, 137 by an LSTM, and 131 to 132 by the optimal estimator.
`test/excess_bits` is the cost above the optimal estimator on the same sequences.

    python train.py --config=configs/ntm_ngrams.py --workdir=runs/ntm_ngrams

Expected: `test/excess_bits` 1.4, from `test/bits_per_sequence` 135.3 and `test/optimal_bits` 133.9:
results/ntm_tasks.

Sized for a laptop: a quarter of an hour on one CPU core.

The heads have no initial biases and gradients are clipped at a norm of 10; other values are from
configs/ntm_copy.py.
"""

from ml_collections import ConfigDict

from configs import ntm_copy
from configs.papers import printed


def get_config(variant: str = "") -> ConfigDict:
    config = ntm_copy.get_config(variant)
    config.name = "ntm_ngrams"
    config.model.update(gate_bias=0.0, shift_bias=0.0, erase_bias=0.0)  # as in the reported runs
    config.optimizer.clip = 10.0
    config.rows = ("graves2014/figure 13/dynamic n-grams, NTM, LSTM",)
    config.paper = printed(config.rows)
    sizes = {"length": (8, 8) if variant == "smoke" else (200, 200)}
    config.data = {"task": "ngrams", "sizes": sizes}
    config.evaluation = {
        "splits": {"test": sizes},
        "sequences": 4 if variant == "smoke" else 1000,
    }
    if variant != "smoke":
        config.optimizer.learning_rate = 1e-3
        config.train.steps = 10_000
    return config
