"""The self-attention GAN of the paper, on ImageNet at 128 x 128.

Zhang et al. 2019, "Self-Attention Generative Adversarial Networks", Table 1, attention at 64 x 64
(feat_64): FID 18.65, Inception Score 52.52, of 50,000 images after a million steps of 256. All
sizes are the paper's, and where it is silent those of the authors' code.

    python -m tasks.prepare imagenet2012 --data_dir=DIR   # once; see README
    python train.py --config=configs/sagan_imagenet128.py --config.data.data_dir=DIR \
        --config.evaluation.inception_weights=FILE --workdir=runs/imagenet128

Not the paper's are the average of the generator over time and the horizontal flips.
Not run here: no figure of ours stands beside the paper's.
Sized for 8 accelerators: the paper's run took two weeks on 4 GPUs.
"""

from ml_collections import ConfigDict

from configs import sagan_digits


def get_config(variant: str = "") -> ConfigDict:
    """The config, or with `variant='smoke'` one that runs in seconds, once there are data."""
    config = sagan_digits.get_config(variant).unlock()
    config.name = "sagan_imagenet128"
    config.paper = {"test/fid": 18.65, "test/inception_score": 52.52}
    resolution = config.data.resolution
    config.data = {
        "source": "tfds",
        "resolution": 128,
        "channels": 3,
        "dataset": "imagenet2012",
        "data_dir": "",
        "test": "validation",
    }
    config.augment.update(rotate=0.0, scale=0.0, shift=0.0, flip=True)
    if variant == "smoke":
        config.data.resolution = resolution
        return config.lock()
    config.batch = 256
    config.model.update(latent=128, feature=64, average=0.999, moments=64)
    config.model.width = {"generator": 64, "discriminator": 64}
    config.optimizer.generator.peak = 1e-4
    config.optimizer.discriminator.peak = 4e-4
    config.health.patience = 2000
    config.evaluation.update(samples=50_000, neighbours_among=10_000)
    config.train.update(
        steps=1_000_000,
        log_every=100,
        eval_every=10_000,
        checkpoint_every=10_000,
        keep=2,
        best="dev/fid",
    )
    return config.lock()
