"""One pointer network for tours of 5 to 20 cities.

Paper: Vinyals et al. 2015, "Pointer Networks", table 2, rows "5-20": 2.12 at 5 cities, 2.87 at 10,
3.88 at 20, 4.30 at 25. A careful re-run got 2.18, 3.05 and 4.23 at 5, 10 and 20.

    python train.py --config=configs/ptrnet_tsp20.py --workdir=runs/ptrnet_tsp20

Expected: `test/length_n20` 3.947, `test/length_n10` 2.886, `test/length_n25` 4.392 (10,000
instances of each, seed 0): results/ptrnet_tsp20.

Sized for a laptop: an hour and a half on a CPU core, half an hour of it for the labels. The
paper's model has 256 or 512 units and was trained by SGD at a rate of 1, with weights from
U(-0.08, 0.08) at the start; choices were constrained only when it was asked, not in training.
"""

from ml_collections import ConfigDict

from configs import ptrnet_tsp


def get_config(variant: str = "") -> ConfigDict:
    config = ptrnet_tsp.get_config(variant)
    config.name = "ptrnet_tsp20"
    config.paper = {
        "test/length_n5": 2.12,
        "test/length_n10": 2.87,
        "test/length_n20": 3.88,
        "test/length_n25": 4.30,
    }
    config.evaluation.sizes = (5, 10, 20, 25)
    config.train.best = "dev/gap_n20"
    labels = {"by": "local_search", "instances": 1_000_000, "folder": "runs/labels"}
    config.data = {"sizes": (5, 20), "labels": labels}
    if variant == "smoke":
        config.data.sizes = (5, 5)
        config.data.labels.update(instances=4, folder="")
    else:
        config.model.update(hidden=256, width=256)
        config.optimizer.update(peak=1e-3)
        config.train.update(steps=30_000, eval_every=2_000, checkpoint_every=1_000)
    return config
