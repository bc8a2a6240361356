r"""Self-attention GAN on CIFAR-10, of a size for a CPU.

Zhang et al. 2019, "Self-Attention Generative Adversarial Networks", at 32 x 32. No printed row: the
paper has no results on CIFAR-10. The networks have half of the width of configs/sagan_cifar10.py;
the learning rates are twice as high, because the run is short.

    python train.py --config=configs/sagan_cifar10_small.py --config.data.dir=DIR \
        --workdir=runs/cifar10_small

DIR is as in configs/sagan_cifar10.py. FID and the other metrics use the features of a classifier of
the real images, because Inception takes seconds per image batch on a CPU;
`--config.evaluation.inception_weights=FILE --config.train.best=dev/fid` uses Inception instead.

Expected: `test/fid_classifier` 1.70 and `test/class_accuracy` 0.626 (results/sagan_cifar10_small).
Without attention, after 6,201 steps: 1.37 and 0.624 (results/sagan_cifar10_small_none).

Sized for a laptop: 48 minutes on one CPU core.
"""

from ml_collections import ConfigDict

from configs import sagan_cifar10


def get_config(variant: str = "") -> ConfigDict:
    """Return the config, or with `variant='smoke'` one that runs in seconds on given images."""
    config = sagan_cifar10.get_config(variant).unlock()
    config.name = "sagan_cifar10_small"
    config.train.best = "dev/fid_classifier"
    if variant == "smoke":
        return config.lock()
    config.batch = 32
    config.model.update(moment_batches=16)
    config.model.width = {"generator": 32, "discriminator": 32}
    config.optimizer.generator.learning_rate = 2e-4
    config.optimizer.discriminator.learning_rate = 8e-4
    config.evaluation.update(samples=5_000, neighbor_samples=2_000, intra_class_samples=0)
    config.evaluation.classifier.update(width=32, features=128, steps=2_000)
    config.train.update(steps=6_000, log_every=50, eval_every=2_000, checkpoint_every=1_000, keep=1)
    return config.lock()
