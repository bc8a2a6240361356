"""A pointer network finds Delaunay triangulations of 5 points.

Paper: Vinyals et al. 2015, "Pointer Networks", sec. 4.3: accuracy 80.7%, coverage 93.0%.

    python train.py --config=configs/ptrnet_delaunay.py --workdir=runs/ptrnet_delaunay

Expected of `--config.batch=1024 --config.train.steps=40000`, minutes on a GPU:
`test/accuracy_n5` 0.740 and `test/coverage_n5` 0.895, results/ptrnet_delaunay. Instances are new at
every step, and labelled inside it; for more than a dozen points `data.labels` has to be that of
configs/ptrnet_hull.py, by "delaunay".

Sized for a laptop: about two hours on a CPU core. Other than the paper's the decoder reads
annotations of points, with which it learns three times as fast, and the optimiser is Adam; there
SGD at a rate of 1, with weights from U(-0.08, 0.08) at the start.
"""

from ml_collections import ConfigDict

from configs import ptrnet_hull


def get_config(variant: str = "") -> ConfigDict:
    config = ptrnet_hull.get_config(variant)
    config.name = "ptrnet_delaunay"
    config.task = "pointing.delaunay"
    config.paper = {"test/accuracy_n5": 0.807, "test/coverage_n5": 0.930}
    config.model.inputs = "annotations"
    config.train.best = "dev/accuracy_n5"
    config.data = {"sizes": (5, 5), "labels": {"by": "circumcircles"}}
    config.evaluation.sizes = (5,)
    return config
