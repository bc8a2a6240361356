"""Self-attention GAN on the user's images.

Zhang et al. 2019, "Self-Attention Generative Adversarial Networks", at 64 x 64. No printed row:
the images are the user's. DIR contains `train/CLASS/` and `test/CLASS/`. The split level, the class
level, or both may be absent. For images without classes add `--config.model.conditional=False
--config.train.best=dev/fid` and the weights of Inception,
`--config.evaluation.inception_weights=FILE`.

    python train.py --config=configs/sagan_folder.py --config.data.dir=DIR --workdir=runs/folder

Not yet run.
Sized for one accelerator.
"""

from ml_collections import ConfigDict

from configs import sagan_imagenet128


def get_config(variant: str = "") -> ConfigDict:
    """Return the config, or with `variant='smoke'` one that runs in seconds on a given folder."""
    config = sagan_imagenet128.get_config(variant).unlock()
    config.name = "sagan_folder"
    config.rows, config.paper = (), {}
    resolution = config.data.resolution
    config.data = {"source": "folder", "resolution": resolution, "channels": 3, "dir": ""}
    if variant == "smoke":
        return config.lock()
    config.batch = 64
    config.data.resolution = 64
    config.model.attention_resolution = 32
    config.evaluation.update(samples=10_000)
    config.train.update(
        steps=200_000, eval_every=5_000, checkpoint_every=5_000, best="dev/fid_classifier"
    )
    return config.lock()
