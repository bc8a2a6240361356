"""A self-attention GAN that draws what the images of a folder show.

Zhang et al. 2019, "Self-Attention Generative Adversarial Networks", at 64 x 64 on images of your
own; the paper has no such figures. DIR holds `train/CLASS/` and `test/CLASS/`, or lacks either
level. Without classes add `--config.model.conditional=False --config.train.best=dev/fid` and, by
`--config.evaluation.inception_weights=FILE`, the weights of Inception.

    python train.py --config=configs/sagan_folder.py --config.data.dir=DIR --workdir=runs/folder

Not run here.
Sized for one accelerator.
"""

from ml_collections import ConfigDict

from configs import sagan_imagenet128


def get_config(variant: str = "") -> ConfigDict:
    """The config, or with `variant='smoke'` one that runs in seconds, once there are images."""
    config = sagan_imagenet128.get_config(variant).unlock()
    config.name = "sagan_folder"
    config.paper = {}
    resolution = config.data.resolution
    config.data = {"source": "folder", "resolution": resolution, "channels": 3, "dir": ""}
    if variant == "smoke":
        return config.lock()
    config.batch = 64
    config.data.resolution = 64
    config.model.feature = 32
    config.evaluation.update(samples=10_000)
    config.train.update(
        steps=200_000, eval_every=5_000, checkpoint_every=5_000, best="dev/fid_classifier"
    )
    return config.lock()
