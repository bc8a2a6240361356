"""SNAIL on random Markov decision processes with ten episodes per trial.

Paper: Mishra et al. 2018, "A simple neural attentive meta-learner", table 4, N = 10: 0.766 +- 0.001
of the reward of value iteration, compared with 0.752 for an LSTM (RL²) and 0.706 for the best
planner.

    python train.py --config=configs/snail_mdp.py --workdir=runs/snail_mdp

Expected: `test/normalized_discounted` of 0.760 (results/snail_mdp_laptop), above the best planner
in the same trials, UCRL2 with 0.716. The model has one of the paper's two `TC` blocks; the paper's,
`--config.model.blocks="TC(32) TC(32) Att(32,32)"`, had 0.753 with earlier value targets
(results/snail_mdp). The paper appears to normalize by a discounted optimum: its random policy has
0.482, whereas a random policy earns 0.460 of the undiscounted optimum. The paper's results are
therefore compared with `normalized_discounted`; `normalized` and `reward` are reported as well.

configs/sweeps/snail_mdp.py has 10 to 100 episodes, and the paper's results for them.
`--config.model.blocks="GRU(256)"` trains the baseline RL²; the run still prints the paper's results
for SNAIL. With the entropy weight and the number of updates of configs/snail_bandits.py the policy
repeats the best single action and ignores the state.

Sized for a laptop: half an hour on one CPU core, far less than the training in the paper.
"""

from ml_collections import ConfigDict

from configs import snail_bandits
from configs.papers import printed


def get_config(variant: str = "") -> ConfigDict:
    config = snail_bandits.get_config(variant)
    config.name = "snail_mdp"
    config.rows = (
        "mishra2018/table 4/N = 10, SNAIL",
        "mishra2018/table 4/N = 10, references",
    )
    config.paper = printed(config.rows)
    config.environment = {
        "kind": "mdp",
        "sizes": {"states": 10, "actions": 5, "horizon": 10, "episodes": 10},
    }

    if variant == "smoke":
        config.environment.sizes.update(states=3, actions=2, horizon=2, episodes=3)
    else:
        config.batch = 200
        config.evaluation.update(dev_trials=1_000, test_trials=2_000)
        config.model.blocks = "TC(32) Att(32,32)"
        config.ppo.update(gae_lambda=0.3, entropy_weight=0.2, minibatches=10)
        config.optimizer.learning_rate = 1e-3
        config.train.update(steps=1_000, eval_every=100, checkpoint_every=100)
    return config
