"""SNAIL on two-dimensional mazes, a substitute for the paper's visual navigation.

Paper: Mishra et al. 2018, "A simple neural attentive meta-learner", table 5. In small
three-dimensional mazes the agent needs 50.3 steps to the goal in the first episode and 34.8 in the
second (an LSTM: 52.4 and 39.1; a random policy: 188.6 and 187.7). Here the agent observes the tiles
around its position. No printed row: mazes of a different kind are not comparable.

    python train.py --config=configs/snail_maze.py --workdir=runs/snail_maze

Expected: `test/steps_1` 22.4 and `test/steps_2` 14.0 with earlier value targets
(results/snail_maze); not measured with today's. A random policy needs 36 in both episodes; the
shortest path has 8.6 steps. `--config.model.blocks="GRU(256)"` gives the
baseline RL².

Sized for a laptop: 40 minutes on one CPU core.
"""

from ml_collections import ConfigDict

from configs import snail_bandits


def get_config(variant: str = "") -> ConfigDict:
    config = snail_bandits.get_config(variant)
    config.name = "snail_maze"
    config.rows, config.paper = (), {}
    config.environment = {"kind": "maze", "sizes": {"cells": 4, "horizon": 40}}
    config.ppo.update(gae_lambda=0.95, value_weight=0.1, entropy_weight=0.02)

    if variant == "smoke":
        config.environment.sizes.update(cells=2, horizon=4)
    else:
        config.batch = 320
        config.evaluation.update(dev_trials=640, test_trials=1_600)
        config.train.steps = 300
    return config
