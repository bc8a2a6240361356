"""A pointer network learns tours of five cities.

Paper: Vinyals et al. 2015, "Pointer Networks", table 2: a mean length of 2.12, as the shortest.

    python train.py --config=configs/ptrnet_tsp5.py --workdir=runs/ptrnet_tsp5

Expected: `test/gap_n5` of 0.001 or less.

Sized for a laptop: a quarter of an hour on a CPU core.
"""

from ml_collections import ConfigDict

from configs import ptrnet_tsp10


def get_config(variant: str = "") -> ConfigDict:
    config = ptrnet_tsp10.get_config(variant)
    config.name = "ptrnet_tsp5"
    config.paper = {"test/length_n5": 2.12}
    config.evaluation.sizes = (5,)
    config.train.best = "dev/gap_n5"
    config.data.sizes = (5, 5)
    if variant != "smoke":
        config.train.steps = 15_000
    return config
