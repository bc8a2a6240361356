"""Small Transformer on number words, English to German: a first run without downloads.

German puts units before tens ("twenty-one" is "einundzwanzig"), so a head of the cross-attention
swaps them, as the figure `attention_cross.png` shows. The model is a small version of the
Transformer of Vaswani et al. 2017. No printed row: the corpus is generated. Expected:
`test/exact_match` of at least 0.99.

    python train.py --config=configs/transformer_nmt.py --workdir=runs/nmt

Sized for a laptop: a few minutes on two CPU cores. `data.source` and `data.target` may be any two
languages of num2words.
"""

from ml_collections import ConfigDict


def get_config(variant: str = "") -> ConfigDict:
    config = ConfigDict()
    config.name = "transformer_nmt"
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
    # A small vocabulary, so that "einundzwanzig" is split into its three words.
    config.vocabulary = {
        "kind": "bpe",
        "size": 128,
        "lowercase": False,
        "normalization": "nfc",
        "sample": 0,
    }
    config.batching = {"tokens": 2048, "buckets": (12, 16, 24), "batch_size_multiple": 8}
    config.max_training_length = 0  # no limit but the length of a packed row
    config.packing = {"rows": 32, "source_length": 64, "target_length": 64}
    config.example = "forty-two thousand, seven hundred and eighty-one"

    config.architecture = "transformer"
    config.model = {
        "width": 128,
        "hidden": 512,
        "heads": 4,
        "key_width": 32,
        "value_width": 32,
        "encoder_layers": 2,
        "decoder_layers": 2,
        "dropout": 0.1,
        "norm": "post",
        "positions": "sinusoidal",
        "max_length": 0,
        "dtype": "float32",
        "implementation": "xla",
        "remat": "none",
    }
    config.label_smoothing = 0.1
    config.optimizer = {
        "method": "adam",
        "schedule": "cosine",
        "learning_rate": 2e-3,
        "warmup_steps": 100,
        "b1": 0.9,
        "b2": 0.98,
        "eps": 1e-9,
        "clip": 0.0,
    }
    # Not BLEU, which counts 4-grams: a German number is a single word.
    config.metrics = ("exact_match", "chrf", "perplexity", "truncated")
    config.lengths = (8, 12, 16, 20, 24)
    config.decode = {"width": 4, "dev_width": 1, "length_penalty": 0.6, "extra": 20}

    config.train = {
        "steps": 1000,
        "accumulate": 1,
        "log_every": 50,
        "eval_every": 250,
        "checkpoint_every": 250,
        "keep": 2,
        "average": 1,
        "best": "dev/exact_match",
        "best_mode": "max",
        "init_from": "none",
    }
    config.optimizer.steps = config.train.get_oneway_ref("steps")
    config.mesh = {"data": -1, "fsdp": 1, "tensor": 1}
    config.cpu_devices = 1

    if variant == "smoke":
        config.data.update(examples=400, held_out=20)
        config.vocabulary.size = 80
        config.batching.update(tokens=256, buckets=(24,))
        config.packing.rows = 8
        config.model.update(width=16, hidden=32, key_width=4, value_width=4)
        config.model.update(encoder_layers=1, decoder_layers=1)
        config.optimizer.update(warmup_steps=1)
        config.decode.update(width=2, extra=4)
        config.train.update(
            steps=4, log_every=1, eval_every=4, checkpoint_every=2, keep=2, average=2
        )
    elif variant:
        raise ValueError(f"there is no variant {variant!r}, only 'smoke'")
    return config
