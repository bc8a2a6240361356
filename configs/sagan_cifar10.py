"""Self-attention GAN on CIFAR-10.

Zhang et al. 2019, "Self-Attention Generative Adversarial Networks", at 32 x 32. The paper has no
results on CIFAR-10. Sizes follow StudioGAN's SAGAN (attention at 16 x 16 in both networks, width
64, batch size 64, learning rates 1e-4 and 4e-4), for which StudioGAN reports FID 14.0 and Inception
Score 8.68, of 10,000 generated and the 10,000 test images; without attention, 13.2 and 8.68.

    python -m tasks.prepare cifar10 --data_dir=DIR   # once; see README
    python train.py --config=configs/sagan_cifar10.py --config.data.data_dir=DIR \
        --config.evaluation.inception_weights=FILE --workdir=runs/cifar10

Not yet run.
Sized for one accelerator.
"""

from ml_collections import ConfigDict

from configs import sagan_imagenet128


def get_config(variant: str = "") -> ConfigDict:
    """Return the config, or with `variant='smoke'` one that runs in seconds on prepared data."""
    config = sagan_imagenet128.get_config(variant).unlock()
    config.name = "sagan_cifar10"
    config.paper = {}  # no results on CIFAR-10
    config.data.update(dataset="cifar10", test_split="test")
    if variant == "smoke":
        return config.lock()
    config.batch = 64
    config.data.resolution = 32
    config.model.attention_resolution = 16
    config.evaluation.update(samples=10_000)
    config.train.update(steps=500_000, eval_every=5_000, checkpoint_every=5_000)
    return config.lock()
