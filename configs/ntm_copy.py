"""The Neural Turing Machine learns to copy.

Paper: Graves et al. 2014, "Neural Turing Machines", sec. 4.1 and fig. 3: the cost of a sequence of
1 to 20 random vectors falls to about 0 bits, and copies of up to 120 are nearly right.

    python train.py --config=configs/ntm_copy.py --workdir=runs/ntm_copy

Expected: `test/bits_per_sequence` below 0.01, and of the 960 bits of a copy of 120 fewer than 3
wrong (`test_120/wrong_bits`), where guessing gets 480 wrong and an LSTM 444. Of ten seeds nine have
less than 0.1 bits, and six copy 120 with at most 21 bits wrong: results/ntm_copy_seeds.

The paper's optimiser is that of configs/ntm_copy_rmsprop.py; here it is Adam with a rate that falls
from 3e-3.

Sized for a laptop: three minutes of one CPU core.
"""

from ml_collections import ConfigDict


def get_config(variant: str = "") -> ConfigDict:
    config = ConfigDict()
    config.name = "ntm_copy"
    config.task = "memory"
    config.seed = 0
    config.paper = {}

    config.episodes = {
        "kind": "copy",
        "sizes": {"length": (1, 20)},
        "splits": {
            "test": {"length": (1, 20)},
            "test_10": {"length": (10, 10)},
            "test_20": {"length": (20, 20)},
            "test_30": {"length": (30, 30)},
            "test_50": {"length": (50, 50)},
            "test_120": {"length": (120, 120)},
        },
        "evaluated": 640,
    }
    config.batch = 16
    config.model = {
        "controller": "lstm",
        "hidden": 100,
        "layers": 1,
        "heads": 1,
        "rows": 128,
        "width": 20,
        "radius": 1,
        "memory": "constant",
    }
    config.optimizer = {
        "method": "adam",
        "schedule": "cosine",
        "peak": 3e-3,
        "warmup": 0,
        "b1": 0.9,
        "b2": 0.999,
        "eps": 1e-8,
        "clip": 10.0,
    }
    config.train = {
        "steps": 10_000,
        "accumulate": 1,
        "log_every": 100,
        "eval_every": 500,
        "checkpoint_every": 500,
        "keep": 2,
        "average": 1,
        "best": "dev/bits_per_sequence",
        "best_mode": "min",
    }
    config.optimizer.steps = config.train.get_oneway_ref("steps")
    config.mesh = {"data": -1, "fsdp": 1, "tensor": 1}
    config.cpu_devices = 2

    if variant == "smoke":
        config.episodes.update(sizes={"length": (1, 2)}, evaluated=4)
        config.episodes.splits = {name: {"length": (3, 3)} for name in config.episodes.splits}
        config.batch = 4
        config.model.update(hidden=8, rows=5, width=4)
        config.train.update(steps=4, log_every=1, eval_every=2, checkpoint_every=2)
    elif variant:
        raise ValueError(f"there is no variant {variant!r}, only 'smoke'")
    return config
