"""SNAIL learns to explore a maze, and to remember the way: the stand-in for visual navigation.

Paper: Mishra et al. 2018, "A simple neural attentive meta-learner", table 5. There, an agent sees a
three-dimensional maze; in small ones it needs 50.3 steps to the goal in the first episode and 34.8
in the second (an LSTM: 52.4 and 39.1; at random: 188.6 and 187.7). Here it sees the cells around it
from above, in another kind of maze, so nothing can be held against these figures but their order:
`test/steps_2` is to be far below `test/steps_1`, which is not so at random.

    python train.py --config=configs/snail_maze.py --workdir=runs/snail_maze

Expected: fewer steps in the second episode than in the first. The baseline, RL², is
`--config.model.blocks="GRU(256)"`.

Sized for a laptop: an hour on two CPU cores.
"""

from ml_collections import ConfigDict

STEPS, EPOCHS, MINIBATCHES = 300, 3, 2


def get_config(variant: str = "") -> ConfigDict:
    config = ConfigDict()
    config.name = "snail_maze"
    config.task = "meta_rl"
    config.seed = 0
    config.paper = {}

    config.environment = {"kind": "maze", "sizes": {"rooms": 4, "horizon": 40}}
    config.batch = 320
    config.evaluated = {"dev": 640, "test": 1_600}
    config.model = {"embedding": 32, "blocks": "TC(32) TC(32) Att(32,32)"}
    config.ppo = {
        "discount": 0.99,
        "trace": 0.95,
        "clip": 0.2,
        "epochs": EPOCHS,
        "minibatches": MINIBATCHES,
        "value_weight": 0.5,
        "value_scale": 1.0,
        "entropy": 0.02,
    }
    config.optimizer = {
        "method": "adam",
        "schedule": "cosine",
        "steps": STEPS * EPOCHS * MINIBATCHES,
        "peak": 1e-3,
        "warmup": 0,
        "b1": 0.9,
        "b2": 0.999,
        "eps": 1e-8,
        "clip": 1.0,
    }
    config.train = {
        "steps": STEPS,
        "log_every": 5,
        "eval_every": 50,
        "checkpoint_every": 50,
        "keep": 2,
        "average": 1,
        "best": "dev/reward",
        "best_mode": "max",
    }
    config.mesh = {"data": -1, "fsdp": 1, "tensor": 1}

    if variant == "smoke":
        config.environment.sizes.update(rooms=2, horizon=4)
        config.batch = 8
        config.evaluated.update(dev=8, test=8)
        config.model.update(embedding=8, blocks="TC(4) Att(4,4)")
        config.optimizer.update(steps=4 * EPOCHS * MINIBATCHES)
        config.train.update(steps=4, log_every=1, eval_every=2, checkpoint_every=2)
    elif variant:
        raise ValueError(f"there is no variant {variant!r}, only 'smoke'")
    return config
