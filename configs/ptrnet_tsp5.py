"""Pointer network on the traveling salesman problem with 5 cities.

Paper: Vinyals et al. 2015, "Pointer Networks", table 2: mean tour length 2.12, equal to the
optimum.

    python train.py --config=configs/ptrnet_tsp5.py --workdir=runs/ptrnet_tsp5

Expected: `test/length_n5` 2.126, `test/gap_n5` 0.0005 (10,000 instances, seed 0).

Sized for a laptop: 15 minutes on one CPU core.
"""

from ml_collections import ConfigDict

from configs import ptrnet_tsp10
from configs.papers import printed


def get_config(variant: str = "") -> ConfigDict:
    config = ptrnet_tsp10.get_config(variant)
    config.name = "ptrnet_tsp5"
    config.rows = ("vinyals2015/table 2/n = 5",)
    config.paper = printed(config.rows)
    config.evaluation.sizes = (5,)
    config.train.best = "dev/gap_n5"
    config.data.sizes = (5, 5)
    if variant != "smoke":
        config.train.steps = 15_000
    return config
