"""Pointer network on the traveling salesman problem with 10 cities.

Paper: Vinyals et al. 2015, "Pointer Networks", table 2: mean tour length 2.88, optimum 2.87.

    python train.py --config=configs/ptrnet_tsp10.py --workdir=runs/ptrnet_tsp10

Expected: `test/length_n10` 2.878, `test/gap_n10` 0.0037 (10,000 instances, seed 0).

Sized for a laptop: one hour on two CPU cores. Deviations from the paper: Adam, where the paper
uses SGD with learning rate 1 and weights initialized from U(-0.08, 0.08); visited cities are masked
in training, where the paper masks them in decoding only. The paper's model has 256 or 512 units.
"""

from ml_collections import ConfigDict

from configs import ptrnet_tsp
from configs.papers import printed


def get_config(variant: str = "") -> ConfigDict:
    config = ptrnet_tsp.get_config(variant)
    config.name = "ptrnet_tsp10"
    config.rows = ("vinyals2015/table 2/n = 10",)
    config.paper = printed(config.rows)
    config.evaluation.sizes = (10,)
    config.train.best = "dev/gap_n10"
    config.data.sizes = (10, 10)
    if variant != "smoke":
        config.model.update(hidden=256, width=256)
        config.optimizer.update(learning_rate=1e-3)
        config.train.update(steps=60_000, eval_every=2_000, checkpoint_every=1_000)
    return config
