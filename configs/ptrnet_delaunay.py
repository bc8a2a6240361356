"""Pointer network on Delaunay triangulations of 5 points.

Paper: Vinyals et al. 2015, "Pointer Networks", sec. 4.3: accuracy 80.7%, triangle coverage 93.0%.

    python train.py --config=configs/ptrnet_delaunay.py --workdir=runs/ptrnet_delaunay

Expected: `test/accuracy_n5` 0.788 and `test/coverage_n5` 0.917; after a second run that starts with
the weights of the first, 0.840 and 0.940. The commands are in results/ptrnet_delaunay.
Instances are generated and labeled in the training step. For more than 12 points, set
`data.labels` as in configs/ptrnet_hull.py, with the solver "delaunay".

Sized for a laptop: 2 hours on two CPU cores. Deviations from the paper: Adam, see
configs/ptrnet_hull.py; the decoder reads annotations of points, which trains three times as fast;
and decoded outputs end only after complete triangles.
"""

from ml_collections import ConfigDict

from configs import ptrnet_hull
from configs.papers import printed


def get_config(variant: str = "") -> ConfigDict:
    config = ptrnet_hull.get_config(variant)
    config.name = "ptrnet_delaunay"
    config.task = "pointing.delaunay"
    config.rows = ("vinyals2015/section 4.3/Delaunay, n = 5",)
    config.paper = printed(config.rows)
    config.model.decoder_inputs = "annotations"
    config.train.best = "dev/accuracy_n5"
    config.data = {"sizes": (5, 5), "labels": {"solver": "in_circle_test"}}
    config.evaluation.sizes = (5,)
    config.optimizer.learning_rate = 4e-3
    if not variant:
        config.train.steps = 67_000
    return config
