r"""SNAIL on mini-ImageNet: 5-way classification from one to five examples of each class.

Paper: Mishra et al. 2018, "A simple neural attentive meta-learner", Table 2, 5-way mini-ImageNet:
55.71 +- 0.99 with one shot and 68.88 +- 0.92 with five.

    python train.py --config=configs/snail_miniimagenet.py --config.data.data_dir=DIR \
        --workdir=runs/snail_miniimagenet

DIR contains the folders `train`, `val` and `test` with 64, 16 and 20 class folders (the split of
Ravi & Larochelle 2017), or is a zip archive of them. The images are from ImageNet, whose license
does not allow to distribute them.

The residual embedding, its dropout, the blocks and the number of shots per training episode are
from the paper. Layer normalization replaces batch normalization. The learning rate, the batch size
and the number of steps are chosen here.

Not yet run.
Sized for one GPU.
"""

from ml_collections import ConfigDict

from configs import snail_omniglot
from configs.papers import printed


def get_config(variant: str = "") -> ConfigDict:
    """Return the config, or with `variant='smoke'` one that runs in seconds on given folders."""
    config = snail_omniglot.get_config(variant)
    config.name = "snail_miniimagenet"
    config.rows = ("mishra2018/table 2/mini-ImageNet, 5-way",)
    config.paper = printed(config.rows)
    config.data.source = "image_folders"
    config.model.encoder = "residual"
    if variant == "smoke":
        return config
    config.data.update(image_size=84, ways=5)
    config.batch = 16
    config.model.update(filters=64, embedding=384, dropout=0.1)
    return config
