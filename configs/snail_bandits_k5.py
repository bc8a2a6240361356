"""SNAIL on five-armed bandits with 100 pulls per trial.

Paper: Mishra et al. 2018, "A simple neural attentive meta-learner", table 3, N = 100, K = 5: a mean
total reward of 79.1 +- 1.0, compared with 78.7 for an LSTM (RL²), 78.3 for the Gittins index and
49.9 for a random policy.

    python train.py --config=configs/snail_bandits_k5.py --workdir=runs/snail_bandits_k5

Expected: `test/reward` of 78.0 on 5,000 test bandits, and 78.2 after a second run that starts from
these weights (results/snail_bandits_k5). In the same trials the Gittins index has 78.5.

The model has a tenth of the weights of the paper's, `--config.model.blocks="TC(32) TC(32)
Att(32,32)"`. All rows of the table are in configs/sweeps/snail_bandits_short.py and
snail_bandits_large.py.

Sized for a laptop: 40 minutes on one CPU core.
"""

from ml_collections import ConfigDict

from configs import snail_bandits
from configs.papers import printed


def get_config(variant: str = "") -> ConfigDict:
    config = snail_bandits.get_config(variant)
    config.name = "snail_bandits_k5"
    config.rows = (
        "mishra2018/table 3/N = 100, K = 5, SNAIL",
        "mishra2018/table 3/N = 100, K = 5, references",
    )
    config.paper = printed(config.rows)
    if variant != "smoke":
        config.environment.sizes.pulls = 100
        config.batch = 200
        config.evaluation.update(dev_trials=1_000, test_trials=5_000)
        config.model.blocks = "TC(16) Att(32,32)"
        config.ppo.minibatches = 10
        config.train.update(steps=3_000, eval_every=250, checkpoint_every=250)
        config.cpu_devices = 1
    return config
