"""SNAIL learns to find its way about small Markov decision processes.

Paper: Mishra et al. 2018, "A simple neural attentive meta-learner", table 4, N = 10 episodes: 0.766
+- 0.001 of what value iteration earns, beside 0.752 of an LSTM (RL²) and 0.706 of the best planner.

    python train.py --config=configs/snail_mdp.py --workdir=runs/snail_mdp

Expected: `test/normalised_discounted` of 0.727 (results/snail_mdp_laptop), a little above the best
planner's in the same processes, UCRL2 at 0.716. The paper's network comes to 0.753 on a GPU
(results/snail_mdp), `--config.model.blocks="TC(32) TC(32) Att(32,32)"`; here it has half of its
blocks. The printed figures seem to be parts of a discounted optimum (an agent that acts at
random earns 0.460 of the undiscounted one, and 0.482 is printed), so they stand beside
`normalised_discounted`; `normalised` and `reward` are there too.

Twenty-five episodes, and the printed figures that belong to them: configs/sweeps/snail_mdp.py. The
baseline, RL², is `--config.model.blocks="GRU(256)"`. With as little entropy and as few updates as
bandits take, the policy plays the one best action and does not look where it is.

Sized for a laptop: a quarter of an hour on a CPU core, which is far less than the paper's training.
"""

from ml_collections import ConfigDict

from configs import snail_bandits


def get_config(variant: str = "") -> ConfigDict:
    config = snail_bandits.get_config(variant)
    config.name = "snail_mdp"
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

    if variant == "smoke":
        config.environment.sizes.update(states=3, actions=2, horizon=2, episodes=3)
    else:
        config.batch = 200
        config.evaluated.update(dev=1_000, test=2_000)
        config.model.blocks = "TC(32) Att(32,32)"
        config.ppo.update(trace=0.3, entropy=0.2, minibatches=10)
        config.optimizer.peak = 1e-3
        config.train.update(steps=500, eval_every=100, checkpoint_every=100)
    return config
