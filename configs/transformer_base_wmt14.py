"""Transformer (base model) on WMT 2014 English–German.

Paper: Vaswani et al. 2017, "Attention Is All You Need", Table 2: BLEU 27.3 on newstest2014, after
12 hours on 8 P100 GPUs; Table 3 gives the sizes. The paper computes BLEU of tokenized text with
German compounds split at hyphens; `test/bleu` is sacrebleu's 13a of plain text, which tends to be
0.5 to 1.0 lower for the same translations.

    pip install -r requirements-prepare.txt
    python -m tasks.prepare wmt14_translate/de-en --data_dir=DIR
    python train.py --config=configs/transformer_base_wmt14.py --config.data.data_dir=DIR

The corpus may also be text files, many of them and compressed. Their globs are set in a config file
that takes the rest from this one:

    def get_config(variant=""):
        config = transformer_base_wmt14.get_config(variant)
        config.data = {
            "corpus": "text_globs",
            "train": "DIR/training/*.de-en.en",  # beside each, the file *.de-en.de
            "dev": "DIR/dev/newstest2013.en",
            "test": "DIR/test/newstest2014.en",
            "source": "en",
            "target": "de",
        }
        return config

Sized for the paper: 63.1M parameters, for 8 accelerators or a TPU slice. Not yet trained. On NVIDIA
GPUs `--config.model.implementation=cudnn` uses the fused kernel. If a batch does not fit into
memory, `--config.train.accumulate=8` splits it into 8 microbatches, and
`--config.model.remat=dots` or `full` stores fewer intermediate results for the backward pass.
"""

from ml_collections import ConfigDict

from configs.papers import printed


def get_config(variant: str = "") -> ConfigDict:
    """Return the config; 'smoke' is a tiny model for four steps."""
    config = ConfigDict()
    config.name = "transformer_base_wmt14"
    config.task = "translation"
    config.seed = 0
    config.rows = ("vaswani2017/table 2/base, En-De",)
    config.paper = printed(config.rows)

    config.data = {
        "corpus": "tfds",
        "dataset": "wmt14_translate/de-en",
        "data_dir": "",
        "source": "en",
        "target": "de",
    }
    config.vocabulary = {
        "kind": "bpe",
        "size": 37_000,
        "lowercase": False,
        "normalization": "nfc",
        "sample": 4_000_000,  # sentences, of 9 million; the memory of all is not needed
    }
    config.batching = {
        "tokens": 32_768,
        "buckets": (16, 24, 32, 40, 56, 80, 128, 256),
        "batch_size_multiple": 32,
    }
    config.max_training_length = 0  # no limit but the length of a packed row
    # 24,576 tokens per side; the paper's batches hold about 25,000. Up to 32 devices can share a
    # batch.
    config.packing = {"rows": 96, "source_length": 256, "target_length": 256}
    config.example = "The Law will never be perfect, but its application should be just."

    config.architecture = "transformer"
    config.model = {
        "width": 512,
        "hidden": 2048,
        "heads": 8,
        "key_width": 64,
        "value_width": 64,
        "encoder_layers": 6,
        "decoder_layers": 6,
        "dropout": 0.1,
        "norm": "post",
        "positions": "sinusoidal",
        "max_length": 0,
        "dtype": "bfloat16",
        "implementation": "xla",
        "remat": "none",
    }
    config.label_smoothing = 0.1
    config.optimizer = {
        "method": "adam",
        "schedule": "inverse_sqrt",
        "learning_rate": (512 * 4000) ** -0.5,
        "warmup_steps": 4000,
        "b1": 0.9,
        "b2": 0.98,
        "eps": 1e-9,
        "clip": 0.0,
    }
    config.metrics = ("bleu", "chrf", "perplexity", "truncated")
    config.lengths = (10, 20, 30, 40, 50, 100)
    config.decode = {"width": 4, "dev_width": 1, "length_penalty": 0.6, "extra": 50}

    # The paper averages the last 5 checkpoints, written every 10 minutes: 1,500 steps at
    # the paper's 0.4 s per step.
    config.train = {
        "steps": 100_000,
        "accumulate": 1,
        "log_every": 100,
        "eval_every": 5_000,
        "checkpoint_every": 1500,
        "keep": 5,
        "average": 5,
        "best": "dev/bleu",
        "best_mode": "max",
        "init_from": "none",
    }
    config.mesh = {"data": -1, "fsdp": 1, "tensor": 1}
    config.cpu_devices = 1

    if variant == "smoke":
        config.vocabulary.size = 300
        config.batching.update(tokens=256, buckets=(32,), batch_size_multiple=8)
        config.packing.update(rows=8, source_length=32, target_length=32)
        config.model.update(width=16, hidden=32, heads=2, key_width=8, value_width=8)
        config.model.update(encoder_layers=1, decoder_layers=1)
        config.decode.update(width=2, extra=4)
        config.train.update(
            steps=4, log_every=1, eval_every=4, checkpoint_every=2, keep=2, average=2
        )
    elif variant:
        raise ValueError(f"there is no variant {variant!r}, only 'smoke'")
    return config
