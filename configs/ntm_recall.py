"""Neural Turing Machine on associative recall.

Paper: Graves et al. 2014, "Neural Turing Machines", sec. 4.3, fig. 10 and 11: for 2 to 6 items, a
feed-forward controller of width 256 with 4 heads reaches about 0 bits after 30,000 sequences and an
LSTM controller after 100,000; an LSTM without memory has 1 to 2 bits after a million. For 15 items,
the feed-forward controller has less than 1 bit.

    python train.py --config=configs/ntm_recall.py --workdir=runs/ntm_recall

Expected: `test/bits_per_sequence` below 0.001, and 0.11 for 20 items, three times as many as in
training: results/ntm_tasks.

Sized for a laptop: a quarter of an hour on one CPU core.

The heads have no initial biases and gradients are clipped at a norm of 10; other values are from
configs/ntm_copy.py.
"""

from ml_collections import ConfigDict

from configs import ntm_copy
from configs.papers import printed


def get_config(variant: str = "") -> ConfigDict:
    config = ntm_copy.get_config(variant)
    config.name = "ntm_recall"
    config.model.update(gate_bias=0.0, shift_bias=0.0, erase_bias=0.0)  # as in the reported runs
    config.optimizer.clip = 10.0
    config.rows = ("graves2014/figure 10/associative recall, NTM, feed-forward",)
    config.paper = printed(config.rows)
    config.data = {"task": "recall", "sizes": {"items": (2, 6)}}
    config.evaluation = {
        "splits": {
            "test": {"items": (2, 6)},
            "test_6": {"items": (6, 6)},
            "test_8": {"items": (8, 8)},
            "test_10": {"items": (10, 10)},
            "test_12": {"items": (12, 12)},
            "test_15": {"items": (15, 15)},
            "test_20": {"items": (20, 20)},
        },
        "sequences": 640,
    }
    if variant == "smoke":
        small = {"items": (2, 3)}
        config.data.sizes = small
        config.evaluation.sequences = 4
        config.evaluation.splits = dict.fromkeys(config.evaluation.splits, small)
    else:
        config.model.update(controller="feed_forward", hidden=256, heads=4)
        config.optimizer.learning_rate = 1e-3
        config.train.steps = 30_000
    return config
