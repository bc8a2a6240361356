"""A pointer network finds convex hulls of 5 to 50 points, each time new ones.

Paper: Vinyals et al. 2015, "Pointer Networks", table 1; see configs/ptrnet_hull.py.

    python train.py --config=configs/ptrnet_hull_gpu.py --workdir=runs/ptrnet_hull_gpu

Expected: `test/accuracy_n5` 0.885, `test/accuracy_n10` 0.818 and `test/accuracy_n50` 0.513:
results/ptrnet_hull. Instances are labelled inside the step, so that none comes again; arrays are as
long as the most points, where labels from the host come in shorter ones.

Sized for one GPU: minutes. Other than the paper's the decoder reads annotations of points.
"""

from ml_collections import ConfigDict

from configs import ptrnet_hull


def get_config(variant: str = "") -> ConfigDict:
    config = ptrnet_hull.get_config(variant)
    config.name = "ptrnet_hull_gpu"
    config.model.inputs = "annotations"
    config.data.labels = {"by": "sides"}
    if variant != "smoke":
        config.batch = 512
        config.train.update(steps=18_000, eval_every=3_000, checkpoint_every=3_000)
    return config
