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

from configs import snail_bandits


def get_config(variant: str = "") -> ConfigDict:
    config = snail_bandits.get_config(variant)
    config.name = "snail_maze"
    config.paper = {}
    config.environment = {"kind": "maze", "sizes": {"rooms": 4, "horizon": 40}}
    config.ppo.update(trace=0.95, entropy=0.02)

    if variant == "smoke":
        config.environment.sizes.update(rooms=2, horizon=4)
    else:
        config.batch = 320
        config.evaluated.update(dev=640, test=1_600)
        config.train.steps = 300
    return config
