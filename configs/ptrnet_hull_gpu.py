"""Pointer network on convex hulls of 5 to 50 points, with instances generated in the training step.

Paper: Vinyals et al. 2015, "Pointer Networks", table 1; see configs/ptrnet_hull.py.

    python train.py --config=configs/ptrnet_hull_gpu.py --workdir=runs/ptrnet_hull_gpu

Expected: `test/accuracy_n5` 0.885, `test/accuracy_n10` 0.818 and `test/accuracy_n50` 0.513; see
results/ptrnet_hull. No instance is repeated. All arrays have the length of the largest size,
whereas labels from the host are padded to one of a few lengths.

Sized for one GPU: 6 minutes. Deviations from the paper: see configs/ptrnet_hull.py; and the decoder
reads annotations of points.
"""

from ml_collections import ConfigDict

from configs import ptrnet_hull


def get_config(variant: str = "") -> ConfigDict:
    config = ptrnet_hull.get_config(variant)
    config.name = "ptrnet_hull_gpu"
    config.model.decoder_inputs = "annotations"
    config.data.labels = {"solver": "orientation_test"}
    if variant != "smoke":
        config.batch = 512
        config.train.update(steps=18_000, eval_every=3_000, checkpoint_every=3_000)
    return config
