r"""Soft attention of Xu et al. 2015 on Flickr8k.

"Show, Attend and Tell: Neural Image Caption Generation with Visual Attention", Table 1, Flickr8k,
soft attention: BLEU-1 to BLEU-4 without brevity penalty of 67, 44.8, 29.9 and 19.5. With
`--config.task=captioning.hard_attention --config.model.attention.alignment=hard`: 67, 45.7, 31.4
and 21.3.

    python train.py --config=configs/captioning_flickr8k.py --config.data.dir=DIR \
        --config.data.vgg_weights=FILE --workdir=runs/flickr8k

DIR contains `dataset_flickr8k.json` of Karpathy & Fei-Fei 2015 and the images in
`Flicker8k_Dataset`; FILE is torchvision's `vgg19-dcbb9e9d.pth`. The features of the images are
computed once, and kept in DIR/features.

Features, vocabulary, batch size and RMSProp are from the paper. The paper does not state the widths
of the model, the learning rate, the weight of the penalty or the beam width; they are chosen here.
Not yet run: the images are available on request only.
Sized for one GPU.
"""

from ml_collections import ConfigDict

from configs.papers import printed


def get_config(variant: str = "") -> ConfigDict:
    config = ConfigDict()
    config.name = "captioning_flickr8k"
    config.task = "captioning"
    config.seed = 0
    config.rows = ("xu2015/table 1/Flickr8k, soft",)
    config.paper = printed(config.rows)

    config.data = {"source": "flickr8k", "dir": "", "resolution": 224, "vgg_weights": ""}
    config.vocabulary_size = 10_000
    # Captions of about equal length form a batch (sec. 4.3). Each length is compiled once.
    config.batching = {"size": 64, "lengths": (8, 9, 10, 11, 12, 13, 14, 15, 16, 18, 20, 24, 40)}

    config.model = {
        "embedding": 512,
        "hidden": 1024,
        "encoder": {"kind": "features", "grid": (14, 14), "width": 512},
        "attention": {
            "score": "additive",
            "alignment": "soft",
            "width": 512,
            "max_source_length": 196,
            "half_width": 1,
            "expectation_probability": 0.5,
            "entropy_weight": 0.002,
        },
        "dropout": 0.5,
        "dtype": "float32",
    }
    config.doubly_stochastic = 1.0
    config.optimizer = {
        "method": "rmsprop",
        "learning_rate": 1e-4,
        "decay": 0.95,
        "momentum": 0.9,
        "eps": 1e-4,
        "clip": 10.0,
    }
    config.decode = {"width": 5, "dev_width": 1, "length_penalty": 0.0, "length": 40}

    config.train = {
        "steps": 20_000,
        "accumulate": 1,
        "log_every": 50,
        "eval_every": 500,
        "checkpoint_every": 500,
        "keep": 2,
        "average": 1,
        "best": "dev/bleu_4",  # the paper stops early on BLEU
        "best_mode": "max",
        "init_from": "none",
    }
    config.mesh = {"data": -1, "fsdp": 1, "tensor": 1}
    config.cpu_devices = 1  # with 2, a step takes 1.34 times as long

    if variant == "smoke":
        # The annotations are the pixels of small images, so that no VGG weights are needed.
        config.data.update(resolution=4)
        config.vocabulary_size = 40
        config.batching.update(size=8, lengths=(40,))
        config.model.update(embedding=8, hidden=8)
        config.model.encoder.update(grid=(4, 4), width=3)
        config.model.attention.update(width=8)
        config.decode.update(width=2, length=6)
        config.train.update(steps=4, log_every=1, eval_every=4, checkpoint_every=2, keep=2)
    elif variant:
        raise ValueError(f"there is no variant {variant!r}, only 'smoke'")
    return config.lock()
