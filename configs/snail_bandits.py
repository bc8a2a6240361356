"""SNAIL learns to play bandits: five arms, ten pulls.

Paper: Mishra et al. 2018, "A simple neural attentive meta-learner", table 3, N = 10, K = 5: a mean
total reward of 6.6 +- 0.1, beside 6.7 of an LSTM (RL²), 6.6 of the Gittins index and 5.0 at random.

    python train.py --config=configs/snail_bandits.py --workdir=runs/snail_bandits

Expected: `test/reward` of 6.5 or more on 10,000 fresh bandits, actions being sampled from the
policy as in the paper. Beside it stand the references in the same trials.

The network is the paper's for bandits as other implementations have it: a linear layer of 32, two
TC blocks of 32 filters, an attention block of 32 and 32. PPO stands for TRPO. The baseline, RL², is
`--config.model.blocks="GRU(256)"`.

Sized for a laptop: minutes on two CPU cores.
"""

from ml_collections import ConfigDict


def get_config(variant: str = "") -> ConfigDict:
    config = ConfigDict()
    config.name = "snail_bandits"
    config.task = "meta_rl"
    config.seed = 0
    config.paper = {
        "test/reward": 6.6,
        "test/reward_random": 5.0,
        "test/reward_greedy": 6.6,
        "test/reward_epsilon_greedy": 6.6,
        "test/reward_thompson": 5.7,
        "test/reward_ucb1": 6.7,
        "test/reward_gittins": 6.6,
    }

    config.environment = {"kind": "bandit", "sizes": {"arms": 5, "pulls": 10}}
    config.batch = 1_000
    config.evaluated = {"dev": 4_000, "test": 10_000}
    config.model = {"embedding": 32, "blocks": "TC(32) TC(32) Att(32,32)"}
    config.ppo = {
        "discount": 0.99,
        "trace": 0.9,
        "clip": 0.2,
        "epochs": 3,
        "minibatches": 2,
        "value_weight": 0.1,
        "entropy": 0.05,
    }
    config.optimizer = {
        "method": "adam",
        "schedule": "cosine",
        "peak": 3e-3,
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
    epochs, minibatches = map(config.ppo.get_oneway_ref, ("epochs", "minibatches"))
    config.optimizer.steps = config.train.get_oneway_ref("steps") * epochs * minibatches
    config.mesh = {"data": -1, "fsdp": 1, "tensor": 1}
    config.cpu_devices = 2

    if variant == "smoke":
        config.environment.sizes.update(arms=3, pulls=4)
        config.batch = 8
        config.evaluated.update(dev=8, test=8)
        config.model.update(embedding=8, blocks="TC(4) Att(4,4)")
        config.train.update(steps=4, log_every=1, eval_every=2, checkpoint_every=2)
    elif variant:
        raise ValueError(f"there is no variant {variant!r}, only 'smoke'")
    return config
