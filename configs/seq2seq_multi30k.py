"""Luong's encoder-decoder on Multi30k English-German, text only.

Paper: Luong et al. 2015, "Effective Approaches to Attention-based Neural Machine Translation", at a
small size: stacked LSTMs, global attention with the general score, input feeding. The paper has no
result for this corpus. The nearest published one is BLEU 38.1 on lowercased tokens of a GRU with
attention (Caglayan et al. 2017; `test/bleu_tok_lc`).

    python train.py --config=configs/seq2seq_multi30k.py --config.data.dir=DIRECTORY

`data.dir` contains train.en, train.de, val.*, test_2016_flickr.* (also .gz). If it is empty, the
corpus is downloaded. `configs/sweeps/luong_scores.py` has the models of tables 1 and 4.

Expected: `test/bleu_tok_lc` of 37.6, see results/seq2seq_multi30k. With a learning rate of 1e-3
attention is learned much later: after 1,950 steps `dev/bleu` is 7.7, with 3e-3 it is 28.8.

Sized for a laptop: 25 minutes on one CPU core.
"""

from ml_collections import ConfigDict

from configs.papers import printed


def get_config(variant: str = "") -> ConfigDict:
    config = ConfigDict()
    config.name = "seq2seq_multi30k"
    config.task = "translation"
    config.seed = 0
    config.rows = ("caglayan2017/table 1/text-only GRU with attention, test2016",)
    config.paper = printed(config.rows)

    config.data = {"corpus": "multi30k", "dir": "", "source": "en", "target": "de"}
    config.vocabulary = {
        "kind": "bpe",
        "size": 6000,
        "lowercase": False,
        "normalization": "nfc",
        "sample": 0,
    }
    config.batching = {
        "tokens": 1024,
        "buckets": (13, 16, 19, 23, 29, 60),
        "batch_size_multiple": 8,
    }
    config.max_training_length = 0  # no limit but the longest bucket
    config.packing = {}  # recurrent models train on buckets
    config.example = "Two young men play football in the snow while an old man watches them."

    config.architecture = "luong"
    config.model = {
        "embedding": 256,
        "hidden": 256,
        "layers": 2,
        "input_feeding": True,
        "encoder": {"kind": "lstm", "layers": 2, "direction": "both", "width": 256},
        "attention": {
            "score": "general",
            "alignment": "soft",
            "width": 256,
            "max_source_length": 60,
            "half_width": 10,
            "expectation_probability": 0.5,
            "entropy_weight": 0.01,
        },
        "dropout": 0.3,
        "dtype": "float32",
        "initialization": "glorot",
    }
    config.label_smoothing = 0.1
    config.optimizer = {
        "method": "adam",
        "schedule": "cosine",
        "learning_rate": 3e-3,
        "warmup_steps": 400,
        "b1": 0.9,
        "b2": 0.999,
        "eps": 1e-8,
        "clip": 5.0,
    }
    config.metrics = ("bleu", "bleu_tok_lc", "chrf", "exact_match", "perplexity", "truncated")
    config.lengths = (10, 15, 20, 25, 60)
    config.decode = {"width": 5, "dev_width": 1, "length_penalty": 1.0, "extra": 50}

    config.train = {
        "steps": 9000,
        "accumulate": 1,
        "log_every": 50,
        "eval_every": 650,
        "checkpoint_every": 100,
        "keep": 5,
        "average": 5,
        "best": "dev/bleu",
        "best_mode": "max",
        "init_from": "none",
    }
    config.optimizer.steps = config.train.get_oneway_ref("steps")
    config.mesh = {"data": -1, "fsdp": 1, "tensor": 1}
    config.cpu_devices = 2

    if variant == "smoke":
        config.vocabulary.size = 300
        config.batching.update(tokens=256, buckets=(60,))
        config.model.update(embedding=8, hidden=16, layers=1)
        config.model.encoder.update(layers=1, width=16)
        config.model.attention.update(width=8)
        config.decode.update(width=2, extra=4)
        config.train.update(
            steps=4, log_every=1, eval_every=4, checkpoint_every=2, keep=2, average=2
        )
    elif variant:
        raise ValueError(f"there is no variant {variant!r}, only 'smoke'")
    return config
