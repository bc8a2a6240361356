"""RNNsearch-50 on WMT 2014 English-French, at the size of the paper.

Paper: Bahdanau et al. 2015, "Neural Machine Translation by Jointly Learning to Align and
Translate", Table 1, RNNsearch-50 on newstest2014: BLEU 26.75 of all sentences, and 34.16 of those
without unknown words, whose translations must not contain any (`test/bleu_words_known`).
configs/sweeps/bahdanau_table1.py has the other models of Table 1 and Figure 2.

    python train.py --config=configs/seq2seq_bahdanau_wmt14.py --config.data.dir=DIRECTORY

`data.dir` contains tokenized text: train.en, train.fr, dev.*, test.* (newstest2014). The paper uses
348M words, selected from WMT 2014 by Axelrod et al. 2011.

Deviations: batches of about 80 x 25 tokens from buckets of similar lengths take the place of
batches of 80 sentences, cut from 1,600 that are sorted by length; both limit padding. The loss is
the mean over tokens; Adadelta and the paper's clipping norm are taken to be for the sum over the
tokens of a sentence, so gradients are multiplied by 25, the mean length. See also
`models.seq2seq.rnnsearch`.

Sized for the paper: 252,000 updates, 5 days of a GPU of its time. Not yet trained.
"""

from ml_collections import ConfigDict

from configs.papers import printed

MEAN_LENGTH = 25  # tokens of a sentence


def get_config(variant: str = "") -> ConfigDict:
    config = ConfigDict()
    config.name = "seq2seq_bahdanau_wmt14"
    config.task = "translation"
    config.seed = 0
    config.rows = ("bahdanau2015/table 1/RNNsearch-50",)
    config.paper = printed(config.rows)

    config.data = {"corpus": "text_files", "dir": "", "source": "en", "target": "fr"}
    config.vocabulary = {"kind": "words", "size": 30_000}
    config.batching = {
        "tokens": 80 * MEAN_LENGTH,
        "buckets": (10, 15, 20, 25, 31, 36, 41, 46, 51, 101),
        "batch_size_multiple": 8,
    }
    config.max_training_length = 50  # words; longer pairs are left out
    config.packing = {}  # recurrent models train on buckets
    config.example = "The agreement on the European Economic Area was signed in August 1992 ."

    config.architecture = "rnnsearch"
    config.model = {
        "embedding": 620,
        "hidden": 1000,
        "maxout": 500,
        "encoder": {"kind": "gru", "layers": 1, "direction": "both", "width": 2000},
        "attention": {
            "score": "additive",
            "alignment": "soft",
            "width": 1000,
            "max_source_length": 101,
            "half_width": 10,
            "expectation_probability": 0.5,
            "entropy_weight": 0.01,
        },
        "dropout": 0.0,
        "dtype": "float32",
        "initialization": "bahdanau",
    }
    config.label_smoothing = 0.0
    config.optimizer = {
        "method": "adadelta",
        "learning_rate": 1.0,
        "gradient_scale": MEAN_LENGTH,
        "rho": 0.95,
        "eps": 1e-6,
        "clip": 1.0,
    }
    config.metrics = ("bleu_words", "bleu_words_known", "perplexity", "truncated")
    config.lengths = (11, 21, 31, 41, 51, 61, 101)  # intervals of ten words and the end token
    config.decode = {
        "width": 12,
        "dev_width": 1,
        "length_penalty": 1.0,
        "extra": 50,
        "dictionary": "",
    }

    config.train = {
        "steps": 252_000,
        "accumulate": 1,
        "log_every": 100,
        "eval_every": 10_000,
        "checkpoint_every": 1000,
        "keep": 2,
        "average": 1,
        "best": "dev/bleu_words",
        "best_mode": "max",
        "init_from": "none",
    }
    config.mesh = {"data": -1, "fsdp": 1, "tensor": 1}
    config.cpu_devices = 1

    if variant == "smoke":
        config.vocabulary.size = 500
        config.batching.update(tokens=256, buckets=(12,))
        config.model.update(embedding=8, hidden=16, maxout=8)
        config.model.encoder.update(width=16)
        config.model.attention.update(width=8, max_source_length=12)
        config.decode.update(width=2, extra=4)
        config.train.update(steps=4, log_every=1, eval_every=4, checkpoint_every=2)
    elif variant:
        raise ValueError(f"there is no variant {variant!r}, only 'smoke'")
    return config
