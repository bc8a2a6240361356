"""Pointer network on convex hulls of 5 to 50 points.

Paper: Vinyals et al. 2015, "Pointer Networks", table 1, model trained on 5-50 points: accuracy
92.0% for 5 points, 87.0% for 10 and 69.6% for 50; area coverage 99.6%, 99.8% and 99.9%.

    python train.py --config=configs/ptrnet_hull.py --workdir=runs/ptrnet_hull

Expected with half the steps (`--config.train.steps=30000`): `test/accuracy_n5` 0.880,
`test/accuracy_n10` 0.811, `test/accuracy_n50` 0.457, and the paper's areas. The full run has not
been measured. The GPU version is configs/ptrnet_hull_gpu.py.

Sized for a laptop: 5 hours on one CPU core. Deviations from the paper: Adam, where the paper uses
SGD with learning rate 1 and weights initialized from U(-0.08, 0.08); and outputs are decoded
without repeated points, and with at least three, where the paper constrains only tours.
"""

from ml_collections import ConfigDict

from configs import ptrnet_tsp
from configs.papers import printed


def get_config(variant: str = "") -> ConfigDict:
    config = ptrnet_tsp.get_config(variant)
    config.name = "ptrnet_hull"
    config.task = "pointing.convex_hull"
    config.rows = (
        "vinyals2015/table 1/Ptr-Net trained on 5-50, n = 5",
        "vinyals2015/table 1/Ptr-Net trained on 5-50, n = 10",
        "vinyals2015/table 1/Ptr-Net trained on 5-50, n = 50",
    )
    config.paper = printed(config.rows)
    config.mask_invalid = False
    config.train.update(best="dev/accuracy_n50", best_mode="max")
    config.data = {
        "sizes": (5, 50),
        "labels": {"solver": "convex_hull", "instances": 1_000_000, "dir": "runs/labels"},
    }
    config.evaluation.sizes = (5, 10, 50)
    if variant == "smoke":
        config.data.update(sizes=(5, 5))
        config.data.labels.update(instances=4, dir="")
    else:
        config.model.update(hidden=256, width=256)
        config.optimizer.update(learning_rate=1e-3)
        config.train.update(steps=60_000)
    return config
