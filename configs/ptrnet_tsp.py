"""Pointer network on the traveling salesman problem with 5 to 10 cities.

Paper: Vinyals et al. 2015, "Pointer Networks", sec. 4.4 and table 2. No printed row: the
paper has no model of 5 to 10 cities.

    python train.py --config=configs/ptrnet_tsp.py --workdir=runs/ptrnet_tsp

Expected: `test/gap_n5` 0.0014 and `test/gap_n10` 0.015, the optimality gaps of greedy tours on
10,000 instances (seed 0). 5,000 steps suffice, because training masks visited cities and all
reference tours are counter-clockwise.

Sized for a laptop: 3 minutes on one CPU core.
"""

from ml_collections import ConfigDict


def get_config(variant: str = "") -> ConfigDict:
    config = ConfigDict()
    config.name = "ptrnet_tsp"
    config.task = "pointing.tsp"
    config.seed = 0
    config.rows, config.paper = (), {}

    config.data = {"sizes": (5, 10), "labels": {"solver": "held_karp"}}
    config.batch = 128
    config.mask_invalid = True  # in training; decoding is always constrained
    config.model = {
        "kind": "pointer",
        "init_limit": 0.0,  # a of an initialization from U(-a, a); 0 for none
        "hidden": 128,
        "encoder": {"kind": "lstm", "layers": 1, "heads": 1},
        "decoder_inputs": "points",
        "score": "additive",
        "width": 128,
        "glimpses": 0,
        "logit_clipping": 0.0,
    }
    config.search = {"kind": "beam", "width": 1}
    config.evaluation = {
        "sizes": (5, 10),
        "instances": 10_000,
        "dev_instances": 1_000,
        "batch": 500,
    }
    config.optimizer = {
        "method": "adam",
        "schedule": "cosine",
        "learning_rate": 2e-3,
        "warmup_steps": 500,
        "b1": 0.9,
        "b2": 0.999,
        "eps": 1e-8,
        "clip": 2.0,
    }
    config.train = {
        "steps": 5_000,
        "accumulate": 1,
        "log_every": 100,
        "eval_every": 500,
        "checkpoint_every": 500,
        "keep": 2,
        "average": 1,
        "best": "dev/gap_n10",
        "best_mode": "min",
        "init_from": "none",
    }
    config.optimizer.steps = config.train.get_oneway_ref("steps")
    config.mesh = {"data": -1, "fsdp": 1, "tensor": 1}
    config.cpu_devices = 1

    if variant == "smoke":
        config.data.sizes = (4, 6)
        config.batch = 4
        config.model.update(hidden=8, width=8)
        config.evaluation.update(sizes=(5, 6), instances=8, dev_instances=4, batch=4)
        config.train.update(
            steps=4, log_every=1, eval_every=2, checkpoint_every=2, best="dev/gap_n6"
        )
    elif variant:
        raise ValueError(f"there is no variant {variant!r}, only 'smoke'")
    return config
