"""Grapheme-to-phoneme conversion on CMUdict with a recurrent encoder-decoder.

Paper: Toshniwal & Livescu 2016, "Jointly Learning to Align and Convert Graphemes to Phonemes with
Neural Attention Models", table 1, global attention: PER 0.0504, WER 0.2169 on the split of 2007,
which Milde et al. 2017 and Yolchuyeva et al. 2019 use as well. If `data.dir` is empty, the data is
the current CMUdict. No printed row: the current CMUdict is harder than the split of 2007. Its best
known public result is a WER of 0.31 (a Transformer with 2 layers of width 256; a WFST has 0.339).
To use the split of 2007: `--config.data.dir=DIRECTORY`.

    python train.py --config=configs/seq2seq_g2p.py --workdir=runs/g2p

Expected: `test/wer` 0.247 and `test/per` 0.059 (results/seq2seq_g2p).

The model follows the paper, with 2 layers of width 384 instead of 3 of width 512: a bidirectional
LSTM encoder, Luong's decoder without input feeding, and Bahdanau's additive score. Local attention:
`--config.model.attention.alignment=local_m` or `local_p`.

Sized for a laptop: 95 minutes on one CPU core, about an hour on two.
"""

from ml_collections import ConfigDict


def get_config(variant: str = "") -> ConfigDict:
    config = ConfigDict()
    config.name = "seq2seq_g2p"
    config.task = "translation"
    config.seed = 0
    config.rows, config.paper = (), {}

    config.data = {"corpus": "cmudict", "source": "letters", "target": "phonemes", "dir": ""}
    config.vocabulary = {"kind": "symbols"}
    config.batching = {"tokens": 2048, "buckets": (8, 10, 12, 16, 36), "batch_size_multiple": 8}
    config.max_training_length = 0  # no limit but the longest bucket
    config.packing = {}  # recurrent models train on buckets
    config.example = "thoroughfare"

    config.architecture = "luong"
    config.model = {
        "embedding": 128,
        "hidden": 384,
        "layers": 2,
        "input_feeding": False,
        "encoder": {"kind": "lstm", "layers": 2, "direction": "both", "width": 384},
        "attention": {
            "score": "additive",
            "alignment": "soft",
            "width": 128,
            "max_source_length": 36,
            "half_width": 3,
            "expectation_probability": 0.5,
            "entropy_weight": 0.01,
        },
        "dropout": 0.2,
        "dtype": "float32",
        "initialization": "glorot",
    }
    config.label_smoothing = 0.1
    config.optimizer = {
        "method": "adam",
        "schedule": "cosine",
        "learning_rate": 1.5e-3,
        "warmup_steps": 500,
        "b1": 0.9,
        "b2": 0.999,
        "eps": 1e-8,
        "clip": 1.0,
    }
    config.metrics = ("wer", "per", "perplexity", "truncated")
    config.lengths = (6, 8, 10, 12, 36)
    config.decode = {"width": 4, "dev_width": 1, "length_penalty": 0.6, "extra": 8}

    config.train = {
        "steps": 11_000,
        "accumulate": 1,
        "log_every": 100,
        "eval_every": 1_000,
        "checkpoint_every": 200,
        "keep": 10,
        "average": 10,
        "best": "dev/wer",
        "best_mode": "min",
        "init_from": "none",
    }
    config.optimizer.steps = config.train.get_oneway_ref("steps")
    config.mesh = {"data": -1, "fsdp": 1, "tensor": 1}
    config.cpu_devices = 2

    if variant == "smoke":
        config.batching.update(tokens=256, buckets=(36,))
        config.model.update(embedding=8, hidden=16, layers=1)
        config.model.encoder.update(width=16)
        config.model.attention.update(width=8)
        config.optimizer.update(warmup_steps=1)
        config.decode.update(width=2, extra=4)
        config.train.update(
            steps=4, log_every=1, eval_every=4, checkpoint_every=2, keep=2, average=2
        )
    elif variant:
        raise ValueError(f"there is no variant {variant!r}, only 'smoke'")
    return config
