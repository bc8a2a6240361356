"""SNAIL on ten-armed bandits with 100 pulls per trial.

Paper: Mishra et al. 2018, "A simple neural attentive meta-learner", table 3, N = 100, K = 10: a
mean total reward of 83.5 +- 0.8, the same as an LSTM (RL²), compared with 82.8 for the Gittins
index and 49.9 for a random policy.

    python train.py --config=configs/snail_bandits_k10.py --workdir=runs/snail_bandits_k10

Expected: `test/reward` of 82.7 on 5,000 test bandits, and 82.8 after a second run that starts from
these weights (results/snail_bandits_k10). In the same trials the Gittins index has 83.6.

Sized for a laptop: 40 minutes on one CPU core. Other values are from
configs/snail_bandits_k5.py.
"""

from ml_collections import ConfigDict

from configs import snail_bandits_k5
from configs.papers import printed


def get_config(variant: str = "") -> ConfigDict:
    config = snail_bandits_k5.get_config(variant)
    config.name = "snail_bandits_k10"
    config.rows = (
        "mishra2018/table 3/N = 100, K = 10, SNAIL",
        "mishra2018/table 3/N = 100, K = 10, references",
    )
    config.paper = printed(config.rows)
    if variant != "smoke":
        config.environment.sizes.arms = 10
    return config
