"""SNAIL learns to find its way about small Markov decision processes.

Paper: Mishra et al. 2018, "A simple neural attentive meta-learner", table 4, N = 10 episodes: 0.766
+- 0.001 of what value iteration earns, beside 0.752 of an LSTM (RL²) and 0.706 of the best planner.

    python train.py --config=configs/snail_mdp.py --workdir=runs/snail_mdp

Expected: `test/normalised_discounted` above the planners'. The printed figures seem to be parts
of a discounted optimum (an agent that acts at random earns 0.458 of the undiscounted one, and 0.482
is printed), so they stand beside `normalised_discounted`; `normalised` and `reward` are there too.

Twenty-five episodes: `--config.environment.sizes.episodes=25`. The network is that of
configs/snail_bandits.py; the baseline, RL², is `--config.model.blocks="GRU(256)"`.

Sized for a laptop: an hour on two CPU cores, which is far less than the paper's training.
"""

from ml_collections import ConfigDict

STEPS, EPOCHS, MINIBATCHES = 300, 3, 2


def get_config(variant: str = "") -> ConfigDict:
    config = ConfigDict()
    config.name = "snail_mdp"
    config.task = "meta_rl"
    config.seed = 0
    config.paper = {
        "test/normalised_discounted": 0.766,
        "test/normalised_discounted_random": 0.482,
        "test/normalised_discounted_epsilon_greedy": 0.640,
        "test/normalised_discounted_psrl": 0.665,
        "test/normalised_discounted_opsrl": 0.694,
        "test/normalised_discounted_ucrl2": 0.706,
    }

    config.environment = {
        "kind": "mdp",
        "sizes": {"states": 10, "actions": 5, "horizon": 10, "episodes": 10},
    }
    config.batch = 250
    config.evaluated = {"dev": 500, "test": 1_000}
    config.model = {"embedding": 32, "blocks": "TC(32) TC(32) Att(32,32)"}
    config.ppo = {
        "discount": 0.99,
        "trace": 0.3,
        "clip": 0.2,
        "epochs": EPOCHS,
        "minibatches": MINIBATCHES,
        "value_weight": 0.5,
        "value_scale": 50.0,
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
        config.environment.sizes.update(states=3, actions=2, horizon=2, episodes=3)
        config.batch = 8
        config.evaluated.update(dev=8, test=8)
        config.model.update(embedding=8, blocks="TC(4) Att(4,4)")
        config.optimizer.update(steps=4 * EPOCHS * MINIBATCHES)
        config.train.update(steps=4, log_every=1, eval_every=2, checkpoint_every=2)
    elif variant:
        raise ValueError(f"there is no variant {variant!r}, only 'smoke'")
    return config
