"""A pointer network learns tours of 20 cities without having seen one.

Paper: Bello et al. 2016, "Neural Combinatorial Optimization with Reinforcement Learning", table 2:
a greedy tour of 3.89 at 20 cities; with the encoder and so the figure of Kool et al. 2019,
"Attention, Learn to Solve Routing Problems!", table 1: 3.85, 0.34% above the shortest, after 128
million instances. Theirs is also the baseline `rollout`, {"by": "rollout", "every": 250, "held":
1_000}; that of `others` is of a later paper, see tasks/pointing/tsp_reinforce.py.

    python train.py --config=configs/ptrnet_tsp20_rl.py --workdir=runs/ptrnet_tsp20_rl

Expected: `test/gap_n20` 0.0185, after 7 million tours through 432,000 instances.

Sized for a laptop: an hour and a half on a CPU core. The decoder is an LSTM that reads annotations,
as Bello's does, without their glimpse; layer for batch normalisation; the rate falls as a cosine.
"""

from ml_collections import ConfigDict

from configs import ptrnet_tsp


def get_config(variant: str = "") -> ConfigDict:
    config = ptrnet_tsp.get_config(variant)
    config.name = "ptrnet_tsp20_rl"
    config.task = "pointing.tsp_reinforce"
    config.paper = {"test/length_n20": 3.85, "test/gap_n20": 0.0034}
    config.data = {"sizes": (20, 20)}
    config.evaluation.sizes = (20,)
    config.train.best = "dev/gap_n20"
    config.reinforce = {"tours": 16, "baseline": {"by": "others"}}
    if variant == "smoke":
        config.reinforce.update(tours=3)
    else:
        config.batch = 16
        config.model.update(inputs="annotations", bound=10.0)
        config.model.encoder = {"kind": "transformer", "layers": 2, "heads": 8}
        config.optimizer.update(peak=5e-4, clip=1.0)
        config.train.update(steps=27_000, eval_every=1_000, checkpoint_every=1_000)
    return config
