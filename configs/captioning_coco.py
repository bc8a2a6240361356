r"""Soft attention of Xu et al. 2015 on COCO.

"Show, Attend and Tell: Neural Image Caption Generation with Visual Attention", Table 1, COCO, soft
attention: BLEU-1 to BLEU-4 without brevity penalty of 70.7, 49.2, 34.4 and 24.3. With
`--config.task=captioning.hard_attention --config.model.attention.alignment=hard`: 71.8, 50.4, 35.7
and 25.0.

    python train.py --config=configs/captioning_coco.py --config.data.dir=DIR \
        --config.data.vgg_weights=FILE --workdir=runs/coco

DIR contains `dataset_coco.json` of Karpathy & Fei-Fei 2015 and the images of 2014 in `train2014`
and `val2014`; FILE is torchvision's `vgg19-dcbb9e9d.pth`. The features need 25 GB in DIR/features.
Karpathy's splits differ from the paper's, which are random.

Features, vocabulary, batch size and Adam are from the paper. The paper does not state the other
values; they are chosen here, as in configs/captioning_flickr8k.py.
Not yet run.
Sized for one GPU: the paper's run took three days on one GPU.
"""

from ml_collections import ConfigDict

from configs import captioning_flickr8k
from configs.papers import printed


def get_config(variant: str = "") -> ConfigDict:
    """Return the config, or with `variant='smoke'` one that runs in seconds on prepared data."""
    config = captioning_flickr8k.get_config(variant).unlock()
    config.name = "captioning_coco"
    config.rows = ("xu2015/table 1/COCO, soft",)
    config.paper = printed(config.rows)
    config.data.source = "coco"
    config.optimizer = {
        "method": "adam",
        "schedule": "constant",
        "learning_rate": 2e-4,
        "warmup_steps": 0,
        "b1": 0.9,
        "b2": 0.999,
        "eps": 1e-8,
        "clip": 10.0,
    }
    if variant == "smoke":
        return config.lock()
    config.train.update(steps=300_000, log_every=100, eval_every=5000, checkpoint_every=5000)
    return config.lock()
