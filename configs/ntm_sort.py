"""Neural Turing Machine on priority sort.

Paper: Graves et al. 2014, "Neural Turing Machines", sec. 4.5 and fig. 18: the top 16 of 20 vectors,
about 10 to 20 bits per sequence after a million sequences; an LSTM has about 50.

    python train.py --config=configs/ntm_sort.py --workdir=runs/ntm_sort

Expected: `test/bits_per_sequence` 38 after 960,000 sequences: results/ntm_sort. After 320,000
sequences it is 69, and 51 with the feed-forward controller of configs/sweeps/ntm_tasks.py.

Sized for a laptop: an hour on one CPU core.

The heads have no initial biases and gradients are clipped at a norm of 10; other values are from
configs/ntm_copy.py.
"""

from ml_collections import ConfigDict

from configs import ntm_copy
from configs.papers import printed


def get_config(variant: str = "") -> ConfigDict:
    config = ntm_copy.get_config(variant)
    config.name = "ntm_sort"
    config.model.update(gate_bias=0.0, shift_bias=0.0, erase_bias=0.0)  # as in the reported runs
    config.optimizer.clip = 10.0
    config.rows = ("graves2014/figure 18/priority sort, NTM, LSTM",)
    config.paper = printed(config.rows)
    sizes = {"items": (20, 20), "top_k": (16, 16)}
    if variant == "smoke":
        sizes = {"items": (3, 3), "top_k": (2, 2)}
    else:
        config.model.update(layers=2, heads=5)
        config.optimizer.learning_rate = 1e-3
        config.train.update(steps=60_000, eval_every=2_000, checkpoint_every=2_000)
    config.data = {"task": "sort", "sizes": sizes}
    config.evaluation = {
        "splits": {"test": sizes},
        "sequences": 4 if variant == "smoke" else 640,
    }
    return config
