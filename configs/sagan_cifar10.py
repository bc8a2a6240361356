"""A self-attention GAN on CIFAR-10.

Zhang et al. 2019, "Self-Attention Generative Adversarial Networks", at 32 x 32: the paper has no
CIFAR-10. Sizes follow the copy of StudioGAN (attention at 16 x 16 in both networks, width 64, batch
64, learning rates 1e-4 and 4e-4), whose own figures are FID 14.0 and Inception Score 8.68, of
10,000 images beside the 10,000 of the test; without attention it reports 13.2 and 8.68.

    python -m tasks.prepare cifar10 --data_dir=DIR   # once; see README
    python train.py --config=configs/sagan_cifar10.py --config.data.data_dir=DIR \
        --config.evaluation.inception_weights=FILE --workdir=runs/cifar10

Not run here: no figure of ours stands beside these.
Sized for one accelerator.
"""

from ml_collections import ConfigDict

from configs import sagan_imagenet128


def get_config(variant: str = "") -> ConfigDict:
    """The config, or with `variant='smoke'` one that runs in seconds, once there are data."""
    config = sagan_imagenet128.get_config(variant).unlock()
    config.name = "sagan_cifar10"
    config.paper = {}  # it has no CIFAR-10
    config.data.update(dataset="cifar10", test="test")
    if variant == "smoke":
        return config.lock()
    config.batch = 64
    config.data.resolution = 32
    config.model.feature = 16
    config.evaluation.update(samples=10_000)
    config.train.update(steps=500_000, eval_every=5_000, checkpoint_every=5_000)
    return config.lock()
