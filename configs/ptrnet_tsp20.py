"""Pointer network on the traveling salesman problem with 5 to 20 cities.

Paper: Vinyals et al. 2015, "Pointer Networks", table 2, "5-20": mean tour length 2.12 for 5 cities,
2.87 for 10, 3.88 for 20 and 4.30 for 25. A published reproduction reached 2.18, 3.05 and 4.23 for
5, 10 and 20 cities.

    python train.py --config=configs/ptrnet_tsp20.py --workdir=runs/ptrnet_tsp20

Expected: `test/length_n20` 3.947, `test/length_n10` 2.886, `test/length_n25` 4.392 (10,000
instances per size, seed 0); see results/ptrnet_tsp20.

Sized for a laptop: 90 minutes on one CPU core, including 30 minutes for the labels. Deviations
from the paper: see configs/ptrnet_tsp10.py.
"""

from ml_collections import ConfigDict

from configs import ptrnet_tsp
from configs.papers import printed


def get_config(variant: str = "") -> ConfigDict:
    config = ptrnet_tsp.get_config(variant)
    config.name = "ptrnet_tsp20"
    config.rows = (
        "vinyals2015/table 2/trained on 5-20, n = 5",
        "vinyals2015/table 2/trained on 5-20, n = 10",
        "vinyals2015/table 2/trained on 5-20, n = 20",
        "vinyals2015/table 2/trained on 5-20, n = 25",
    )
    config.paper = printed(config.rows)
    config.evaluation.sizes = (5, 10, 20, 25)
    config.train.best = "dev/gap_n20"
    labels = {"solver": "local_search", "instances": 1_000_000, "dir": "runs/labels"}
    config.data = {"sizes": (5, 20), "labels": labels}
    if variant == "smoke":
        config.data.sizes = (5, 5)
        config.data.labels.update(instances=4, dir="")
    else:
        config.model.update(hidden=256, width=256)
        config.optimizer.update(learning_rate=1e-3)
        config.train.update(steps=30_000, eval_every=2_000, checkpoint_every=1_000)
    return config
