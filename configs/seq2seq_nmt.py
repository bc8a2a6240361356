"""RNNsearch on English-German number words.

Paper: Bahdanau et al. 2015, "Neural Machine Translation by Jointly Learning to Align and
Translate", at a small size. No printed row: the corpus is generated. The alignment in
`attention_cross.png` is monotonic except that German puts units before tens: "twenty-one" is
"einundzwanzig".

    python train.py --config=configs/seq2seq_nmt.py --workdir=runs/seq2seq

Expected: `test/exact_match` 0.999, and `test_long/exact_match` 0.998 (results/seq2seq_nmt).

`model.attention` accepts any combination of score and alignment, for example
`--config.model.attention.score=general --config.model.attention.alignment=local_p`.
`alignment=hard` requires `--config.task=translation.hard_attention`. `alignment=none` is the
control, the encoder-decoder of Cho et al. 2014 with one fixed vector for the source.

Sized for a laptop: a few minutes on two CPU cores.
"""

from ml_collections import ConfigDict


def get_config(variant: str = "") -> ConfigDict:
    config = ConfigDict()
    config.name = "seq2seq_nmt"
    config.task = "translation"
    config.seed = 0
    config.rows, config.paper = (), {}

    config.data = {
        "corpus": "numbers",
        "source": "en",
        "target": "de",
        "examples": 30_000,
        "held_out": 1000,
        "maximum": 999_999,
        "nonzero_digits": 4,
        "seed": 0,
    }
    # Few subwords, so that "einundzwanzig" is split into its three words.
    config.vocabulary = {
        "kind": "bpe",
        "size": 128,
        "lowercase": False,
        "normalization": "nfc",
        "sample": 0,
    }
    config.batching = {"tokens": 2048, "buckets": (12, 16, 24), "batch_size_multiple": 8}
    config.max_training_length = 0  # no limit but the longest bucket
    config.packing = {}  # recurrent models train on buckets
    config.example = "forty-two thousand, seven hundred and eighty-one"

    config.architecture = "rnnsearch"
    config.model = {
        "embedding": 64,
        "hidden": 256,
        "maxout": 128,
        "encoder": {"kind": "gru", "layers": 1, "direction": "both", "width": 256},
        "attention": {
            "score": "additive",
            "alignment": "soft",
            "width": 128,
            "max_source_length": 24,
            "half_width": 3,
            "expectation_probability": 0.5,
            "entropy_weight": 0.01,
        },
        "dropout": 0.1,
        "dtype": "float32",
        "initialization": "glorot",
    }
    config.label_smoothing = 0.1
    config.optimizer = {
        "method": "adam",
        "schedule": "cosine",
        "learning_rate": 2e-3,
        "warmup_steps": 100,
        "b1": 0.9,
        "b2": 0.999,
        "eps": 1e-8,
        "clip": 1.0,
    }
    # Not BLEU, which counts 4-grams of words: a German number is a single word.
    config.metrics = ("exact_match", "chrf", "perplexity", "truncated")
    config.lengths = (8, 12, 16, 20, 24)
    config.decode = {"width": 4, "dev_width": 1, "length_penalty": 0.6, "extra": 20}

    config.train = {
        "steps": 500,
        "accumulate": 1,
        "log_every": 25,
        "eval_every": 125,
        "checkpoint_every": 25,
        "keep": 5,
        "average": 5,
        "best": "dev/exact_match",
        "best_mode": "max",
        "init_from": "none",
    }
    config.optimizer.steps = config.train.get_oneway_ref("steps")
    config.mesh = {"data": -1, "fsdp": 1, "tensor": 1}
    config.cpu_devices = 2

    if variant == "smoke":
        config.data.update(examples=400, held_out=20)
        config.vocabulary.size = 80
        config.batching.update(tokens=256, buckets=(24,))
        config.model.update(embedding=8, hidden=16, maxout=8)
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
