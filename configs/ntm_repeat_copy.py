"""Neural Turing Machine on repeat copy.

Paper: Graves et al. 2014, "Neural Turing Machines", sec. 4.2, fig. 7 and 8: about 0 bits per
sequence after 100,000 sequences, an LSTM after 300,000. The NTM generalizes to longer sequences but
not to more than ten repeats. The vectors have six bits: see `RepeatCopy`.

    python train.py --config=configs/ntm_repeat_copy.py --workdir=runs/ntm_repeat_copy

Expected: `test/bits_per_sequence` 0.02, and `test_length_20/exact_match` 0.5 for 20 vectors and ten
repeats. As in the paper, it does not generalize to more than ten repeats: results/ntm_tasks.

Sized for a laptop: a quarter of an hour on one CPU core.

The heads have no initial biases and gradients are clipped at a norm of 10; other values are from
configs/ntm_copy.py.
"""

from ml_collections import ConfigDict

from configs import ntm_copy
from configs.papers import printed


def get_config(variant: str = "") -> ConfigDict:
    config = ntm_copy.get_config(variant)
    config.name = "ntm_repeat_copy"
    config.model.update(gate_bias=0.0, shift_bias=0.0, erase_bias=0.0)  # as in the reported runs
    config.optimizer.clip = 10.0
    config.rows = ("graves2014/figure 7/repeat copy, NTM, LSTM",)
    config.paper = printed(config.rows)
    config.data = {"task": "repeat_copy", "sizes": {"length": (1, 10), "repeats": (1, 10)}}
    config.evaluation = {
        "splits": {
            "test": {"length": (1, 10), "repeats": (1, 10)},
            "test_length_20": {"length": (20, 20), "repeats": (10, 10)},
            "test_repeats_20": {"length": (10, 10), "repeats": (20, 20)},
        },
        "sequences": 640,
    }
    if variant == "smoke":
        small = {"length": (1, 2), "repeats": (1, 2)}
        config.data.sizes = small
        config.evaluation.sequences = 4
        config.evaluation.splits = dict.fromkeys(config.evaluation.splits, small)
    else:
        config.train.steps = 30_000
    return config
