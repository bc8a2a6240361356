r"""Self-attention GAN of the paper, on ImageNet at 128 x 128.

Zhang et al. 2019, "Self-Attention Generative Adversarial Networks", Table 1, attention at 64 x 64
(feat_64): FID 18.65 and Inception Score 52.52, of 50,000 images after a million steps of 256
images. All sizes are from the paper, or from the authors' code if the paper has none.

    python -m tasks.prepare imagenet2012 --data_dir=DIR   # once; see README
    python train.py --config=configs/sagan_imagenet128.py --config.data.data_dir=DIR \
        --config.evaluation.inception_weights=FILE --workdir=runs/imagenet128

Deviations from the paper: the moving average of the generator, and horizontal flips.
Not yet run.
Sized for 8 accelerators: the paper's run took two weeks on 4 GPUs.
"""

from ml_collections import ConfigDict

from configs import sagan_digits
from configs.papers import printed


def get_config(variant: str = "") -> ConfigDict:
    """Return the config, or with `variant='smoke'` one that runs in seconds on prepared data."""
    config = sagan_digits.get_config(variant).unlock()
    config.name = "sagan_imagenet128"
    config.rows = ("zhang2019/table 1/SAGAN, feat_64", "zhang2019/table 2/SAGAN")
    config.paper = printed(config.rows)
    resolution = config.data.resolution
    config.data = {
        "source": "tfds",
        "resolution": 128,
        "channels": 3,
        "dataset": "imagenet2012",
        "data_dir": "",
        "test_split": "validation",
    }
    config.augment.update(rotate=0.0, scale=0.0, shift=0.0, flip=True)
    if variant == "smoke":
        config.data.resolution = resolution
        return config.lock()
    config.batch = 256
    config.model.update(
        latent_size=128, attention_resolution=64, ema_decay=0.999, moment_batches=64
    )
    config.model.width = {"generator": 64, "discriminator": 64}
    config.optimizer.generator.learning_rate = 1e-4
    config.optimizer.discriminator.learning_rate = 4e-4
    config.divergence.patience = 2000
    config.evaluation.update(samples=50_000, neighbor_samples=10_000, intra_class_samples=5_000)
    config.train.update(
        steps=1_000_000,
        log_every=100,
        eval_every=10_000,
        checkpoint_every=10_000,
        keep=2,
        best="dev/fid",
    )
    return config.lock()
