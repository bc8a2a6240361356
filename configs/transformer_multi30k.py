"""A small Transformer on Multi30k English–German, text only.

Paper: Wu et al. 2021, "Good for Misconceived Reasons", text-only Transformer-Tiny, test2016:
tokenised lower-cased BLEU 41.02 (`test/bleu_tok_lc`). The architecture is Vaswani et al. 2017.

    python train.py --config=configs/transformer_multi30k.py --config.data.dir=FOLDER

`data.dir` holds train.en, train.de, val.*, test_2016_flickr.* (also .gz); left empty, the corpus is
downloaded. Expected: `test/bleu` of 35 and more.

Sized for a laptop, 13 epochs in about half an hour on two idle CPU cores, and so not quite the
paper's: 3 + 3 layers of width 256 learn faster per epoch than its 4 + 4 of width 128, which had
over 100 epochs of larger batches. For those: `--config.model.width=128 --config.model.hidden=256
--config.model.heads=4 --config.model.encoder_layers=4 --config.model.decoder_layers=4
--config.model.dropout=0.3`, and more steps, a lower peak and batches of 8,192 tokens.
"""

from ml_collections import ConfigDict


def get_config(variant: str = "") -> ConfigDict:
    config = ConfigDict()
    config.name = "transformer_multi30k"
    config.task = "translation"
    config.seed = 0
    config.paper = {"test/bleu_tok_lc": 41.02}

    config.data = {"corpus": "multi30k", "dir": "", "source": "en", "target": "de"}
    config.vocabulary = {"kind": "bpe", "size": 6000}
    config.batching = {"tokens": 3072, "buckets": (13, 16, 19, 23, 29, 60), "batch_size_multiple": 8}
    config.packing = {"rows": 48, "source_length": 64, "target_length": 64}
    config.example = "Two young men play football in the snow while an old man watches them."

    config.architecture = "transformer"
    config.model = {
        "width": 256,
        "hidden": 512,
        "heads": 8,
        "key_width": 32,
        "value_width": 32,
        "encoder_layers": 3,
        "decoder_layers": 3,
        "dropout": 0.15,
        "norm": "post",
        "dtype": "float32",
        "implementation": "xla",
    }
    config.label_smoothing = 0.1
    config.optimizer = {
        "method": "adam",
        "schedule": "cosine",
        "learning_rate": 1e-3,
        "warmup_steps": 400,
        "b1": 0.9,
        "b2": 0.98,
        "eps": 1e-9,
        "clip": 0.0,
    }
    config.metrics = ("bleu", "bleu_tok_lc", "chrf", "exact_match", "perplexity", "truncated")
    config.lengths = (10, 15, 20, 25, 60)
    config.decode = {"width": 5, "dev_width": 1, "length_penalty": 1.0, "extra": 50}

    config.train = {
        "steps": 2600,
        "accumulate": 1,
        "log_every": 50,
        "eval_every": 650,
        "checkpoint_every": 100,
        "keep": 5,
        "average": 5,
        "best": "dev/bleu",
        "best_mode": "max",
    }
    config.optimizer.steps = config.train.get_oneway_ref("steps")
    config.mesh = {"data": -1, "fsdp": 1, "tensor": 1}
    config.cpu_devices = 1

    if variant == "smoke":
        config.vocabulary.size = 300
        config.batching.update(tokens=256, buckets=(60,))
        config.packing.rows = 8
        config.model.update(width=16, hidden=32, key_width=4, value_width=4)
        config.model.update(encoder_layers=1, decoder_layers=1)
        config.decode.update(width=2, extra=4)
        config.train.update(
            steps=4, log_every=1, eval_every=4, checkpoint_every=2, keep=2, average=2
        )
    elif variant:
        raise ValueError(f"there is no variant {variant!r}, only 'smoke'")
    return config
