"""SNAIL on five-armed bandits with ten pulls per trial.

Paper: Mishra et al. 2018, "A simple neural attentive meta-learner", table 3, N = 10, K = 5: a mean
total reward of 6.6 +- 0.1, compared with 6.7 for an LSTM (RL²), 6.6 for the Gittins index and 5.0
for a random policy.

    python train.py --config=configs/snail_bandits.py --workdir=runs/snail_bandits

Expected: `test/reward` of at least 6.5 on 10,000 test bandits, with actions sampled from the policy
as in the paper. The baseline policies are evaluated in the same trials.

The network follows other implementations of the paper's bandit model: a linear layer of width 32,
two TC blocks with 32 filters, and an attention block with key and value width 32. PPO replaces
TRPO. `--config.model.blocks="GRU(256)"` trains the baseline RL²; the run still prints the paper's
results for SNAIL. For long trials, `--config.model.remat=dots` or `full` stores fewer intermediate
results for the backward pass.

Sized for a laptop: minutes on two CPU cores.
"""

from ml_collections import ConfigDict

from configs.papers import printed


def get_config(variant: str = "") -> ConfigDict:
    config = ConfigDict()
    config.name = "snail_bandits"
    config.task = "meta_rl"
    config.seed = 0
    config.rows = (
        "mishra2018/table 3/N = 10, K = 5, SNAIL",
        "mishra2018/table 3/N = 10, K = 5, references",
        "duan2016/table 1/n = 10, k = 5, references",
    )
    config.paper = printed(config.rows)

    config.environment = {"kind": "bandit", "sizes": {"arms": 5, "pulls": 10}}
    config.batch = 1_000
    config.evaluation = {"dev_trials": 4_000, "test_trials": 10_000}
    config.model = {"embedding": 32, "blocks": "TC(32) TC(32) Att(32,32)", "remat": "none"}
    config.ppo = {
        "discount": 0.99,
        "gae_lambda": 0.9,
        "clip": 0.2,
        "epochs": 3,
        "minibatches": 2,
        "value_weight": 0.5,
        "entropy_weight": 0.05,  # at step 0; decays linearly to 0 at `entropy_steps`
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
        "steps": 200,
        "log_every": 5,
        "eval_every": 50,
        "checkpoint_every": 50,
        "keep": 2,
        "average": 1,
        "best": "dev/reward",
        "best_mode": "max",
        "init_from": "none",
    }
    config.ppo.entropy_steps = config.train.get_oneway_ref("steps")
    epochs, minibatches = map(config.ppo.get_oneway_ref, ("epochs", "minibatches"))
    config.optimizer.steps = config.train.get_oneway_ref("steps") * epochs * minibatches
    config.mesh = {"data": -1, "fsdp": 1, "tensor": 1}
    config.cpu_devices = 2

    if variant == "smoke":
        config.environment.sizes.update(arms=3, pulls=4)
        config.batch = 8
        config.evaluation.update(dev_trials=8, test_trials=8)
        config.model.update(embedding=8, blocks="TC(4) Att(4,4)")
        config.train.update(steps=4, log_every=1, eval_every=2, checkpoint_every=2)
    elif variant:
        raise ValueError(f"there is no variant {variant!r}, only 'smoke'")
    return config
