r"""Self-attention GAN on CIFAR-10.

Zhang et al. 2019, "Self-Attention Generative Adversarial Networks", at 32 x 32. No printed row: the
paper has no results on CIFAR-10. Sizes follow StudioGAN's SAGAN (attention at 16 x 16 in both
networks, width 64, batch size 64, learning rates 1e-4 and 4e-4), for which StudioGAN reports FID
14.0 and Inception Score 8.68, of 10,000 generated and the 10,000 test images; without attention,
13.2 and 8.68.

    python train.py --config=configs/sagan_cifar10.py --config.data.dir=DIR \
        --config.evaluation.inception_weights=FILE --workdir=runs/cifar10

DIR contains `cifar-10-python.tar.gz` from https://www.cs.toronto.edu/~kriz/cifar.html, or `train`
and `test` as folders or zip archives of class folders, or CIFAR-10 as prepared by `python -m
tasks.prepare cifar10 --data_dir=DIR`. Files that are JPEG-compressed are not the original images:
the header of a run says so, and its results are not comparable with published ones.

Without the weights of Inception, add `--config.evaluation.inception_weights=
--config.train.best=dev/fid_classifier`: the metrics then have the suffix `_classifier`.

Not yet run.
Sized for one accelerator. A step has 280 GFLOP (results/plans/sagan_cifar10.md);
`--config.train.steps=100_000` takes an hour and a half if a GPU reaches 5 TFLOP/s, an estimate.
"""

from ml_collections import ConfigDict

from configs import sagan_imagenet128


def get_config(variant: str = "") -> ConfigDict:
    """Return the config, or with `variant='smoke'` one that runs in seconds on given images."""
    config = sagan_imagenet128.get_config(variant).unlock()
    config.name = "sagan_cifar10"
    config.rows, config.paper = (), {}
    resolution = config.data.resolution
    config.data = {"source": "cifar10", "resolution": resolution, "channels": 3, "dir": ""}
    if variant == "smoke":
        return config.lock()
    config.batch = 64
    config.data.resolution = 32
    config.model.attention_resolution = 16
    config.evaluation.update(samples=10_000)
    config.train.update(steps=500_000, eval_every=5_000, checkpoint_every=5_000)
    return config.lock()
