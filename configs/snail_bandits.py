from ml_collections import ConfigDict


def get_config(variant: str = "") -> ConfigDict:
    config = ConfigDict()
    config.name = "snail_bandits"
    config.task = "meta_rl"
    config.seed = 0
    config.paper = {"test/reward": 6.6}

    config.environment = {"kind": "bandit", "sizes": {"arms": 5, "pulls": 10}}
    config.batch = 1_000
    config.evaluated = {"dev": 10_000, "test": 10_000}
    config.model = {
        "kind": "snail",
        "sizes": {
            "snail": {"embedding": 32, "blocks": "TC(32) TC(32) Att(32,32)"},
            "rl2": {"hidden": 256},
        },
    }
    config.ppo = {
        "discount": 0.99,
        "trace": 0.7,
        "clip": 0.2,
        "epochs": 3,
        "minibatches": 2,
        "value_weight": 0.5,
        "value_scale": 10.0,
        "entropy": 0.03,
    }
    config.optimizer = {
        "method": "adam",
        "schedule": "cosine",
        "steps": 200 * 6,
        "peak": 1e-3,
        "warmup": 0,
        "b1": 0.9,
        "b2": 0.999,
        "eps": 1e-8,
        "clip": 1.0,
    }
    config.train = {
        "steps": 200,
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
        config.environment.sizes.update(arms=3, pulls=4)
        config.batch = 8
        config.evaluated.update(dev=8, test=8)
        config.model.sizes.snail.update(embedding=8, blocks="TC(4) Att(4,4)")
        config.model.sizes.rl2.update(hidden=8)
        config.ppo.update(minibatches=2)
        config.optimizer.update(steps=4 * 6)
        config.train.update(steps=4, log_every=1, eval_every=2, checkpoint_every=2)
    elif variant:
        raise ValueError(f"there is no variant {variant!r}, only 'smoke'")
    return config.lock()
