"""Neural Turing Machine on the copy task.

Paper: Graves et al. 2014, "Neural Turing Machines", sec. 4.1 and fig. 3: about 0 bits per sequence
of 1 to 20 random vectors, and copies of length 120 with few errors.

    python train.py --config=configs/ntm_copy.py --workdir=runs/ntm_copy

Expected: `test/bits_per_sequence` below 0.001, and no wrong bit at length 120; see
results/ntm_copy. All ten seeds of results/ntm_copy_seeds have less than ten wrong bits of 1,080,
the end delimiter's channel included. Random outputs have 480 wrong bits, and an LSTM has 444.

Heads start with closed interpolation gates, a shift of 0, and little erasing. Without these initial
biases, content lookups blur the weighting and every step erases half of a row. Many seeds then
learn to keep the input in the controller, or fail on sequences longer than in training.

Optimizer: Adam with cosine decay from 3e-3 and gradients clipped at a norm of 1. For the paper's
RMSProp, see configs/ntm_copy_rmsprop.py.

Sized for a laptop: two minutes on one CPU core.
"""

from ml_collections import ConfigDict

from configs.papers import printed


def get_config(variant: str = "") -> ConfigDict:
    config = ConfigDict()
    config.name = "ntm_copy"
    config.task = "memory"
    config.seed = 0
    config.rows = ("graves2014/figure 3/copy, NTM, LSTM",)
    config.paper = printed(config.rows)

    config.data = {"task": "copy", "sizes": {"length": (1, 20)}}
    config.evaluation = {
        "splits": {
            "test": {"length": (1, 20)},
            "test_10": {"length": (10, 10)},
            "test_20": {"length": (20, 20)},
            "test_30": {"length": (30, 30)},
            "test_50": {"length": (50, 50)},
            "test_120": {"length": (120, 120)},
        },
        "sequences": 640,
    }
    config.batch = 16
    config.model = {
        "controller": "lstm",
        "hidden": 100,
        "layers": 1,
        "heads": 1,
        "memory_rows": 128,
        "memory_width": 20,
        "max_shift": 1,
        "memory_init": "constant",
        "gate_bias": -7.0,
        "shift_bias": 3.0,
        "erase_bias": -3.0,
        "backward_clip": 0.0,
    }
    config.optimizer = {
        "method": "adam",
        "schedule": "cosine",
        "learning_rate": 3e-3,
        "warmup_steps": 0,
        "b1": 0.9,
        "b2": 0.999,
        "eps": 1e-8,
        "clip": 1.0,
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
        "init_from": "none",
    }
    config.optimizer.steps = config.train.get_oneway_ref("steps")
    config.mesh = {"data": -1, "fsdp": 1, "tensor": 1}
    config.cpu_devices = 2

    if variant == "smoke":
        config.data.sizes = {"length": (1, 2)}
        config.evaluation.sequences = 4
        config.evaluation.splits = {name: {"length": (3, 3)} for name in config.evaluation.splits}
        config.batch = 4
        config.model.update(hidden=8, memory_rows=5, memory_width=4)
        config.train.update(steps=4, log_every=1, eval_every=2, checkpoint_every=2)
    elif variant:
        raise ValueError(f"there is no variant {variant!r}, only 'smoke'")
    return config
