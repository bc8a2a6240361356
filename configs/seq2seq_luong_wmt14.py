r"""Luong's encoder-decoder on WMT 2014 English-German, at the size of the paper.

Paper: Luong et al. 2015, "Effective Approaches to Attention-based Neural Machine Translation",
Table 1, local-p attention with the general score and input feeding, newstest2014: perplexity 5.9,
BLEU 19.0, and 20.9 after the replacement of unknown words. The sweeps `luong_table1.py`,
`luong_table3.py` and `luong_table4.py` in configs/sweeps have the other models.

    python train.py --config=configs/seq2seq_luong_wmt14.py --config.data.dir=DIRECTORY

`data.dir` contains tokenized text: train.en, train.de, dev.*, test.* (newstest2014), test_2015.*,
as in the data of the Stanford NLP group for this paper. `decode.dictionary`, if given, is a file
with a source word and its translation per line; unknown words are replaced by the translation of
the source word with the largest attention weight, or by this word.

Table 6, alignment error rate, with the English-German pairs that RWTH Aachen aligned by hand as
test_aligned.en and .de (the file counts from 1 and names the German word first):

    python eval.py --workdir=DIR --split=test_aligned --alignments=alignmentDeEn.talp \
        --alignments_from_one --alignments_reversed

Ensemble of 8 models (Table 1, BLEU 23.0): `--workdir` several times.

Deviations: batches of about 128 x 26 tokens instead of 128 sentences. An epoch is counted as 35,000
updates, as if batches had no padding; with batches that are 78% full, as on Multi30k, it has
45,000, so the rate decays earlier than in the paper. The loss is the mean over tokens. The paper's
learning rate and clipping norm are taken to be for the sum over the tokens of a sentence, so they
are multiplied and divided by 26, the mean length.

Sized for the paper: 12 epochs of 4.5M pairs, for one accelerator. Not yet trained.
"""

from ml_collections import ConfigDict

from configs.papers import printed

EPOCH = 35_000  # updates
MEAN_LENGTH = 26  # tokens of a sentence


def get_config(variant: str = "") -> ConfigDict:
    config = ConfigDict()
    config.name = "seq2seq_luong_wmt14"
    config.task = "translation"
    config.seed = 0
    config.rows = ("luong2015/table 1/local-p (general) + feed input, + unk replace",)
    config.paper = printed(config.rows)

    config.data = {"corpus": "text_files", "dir": "", "source": "en", "target": "de"}
    config.vocabulary = {"kind": "words", "size": 50_000}
    config.batching = {
        "tokens": 128 * MEAN_LENGTH,
        "buckets": (10, 15, 20, 25, 30, 35, 40, 45, 51, 101),
        "batch_size_multiple": 8,
    }
    config.max_training_length = 50  # words; longer pairs are left out
    config.packing = {}  # recurrent models train on buckets
    config.example = "The Law will never be perfect , but its application should be just ."

    config.architecture = "luong"
    config.model = {
        "embedding": 1000,
        "hidden": 1000,
        "layers": 4,
        "input_feeding": True,
        "encoder": {"kind": "lstm", "layers": 4, "direction": "reverse", "width": 1000},
        "attention": {
            "score": "general",
            "alignment": "local_p",
            "width": 1000,
            "max_source_length": 101,
            "half_width": 10,
            "expectation_probability": 0.5,
            "entropy_weight": 0.01,
        },
        "dropout": 0.2,
        "dtype": "float32",
        "initialization": "luong",
    }
    config.label_smoothing = 0.0
    config.optimizer = {
        "method": "sgd",
        "learning_rate": 1.0 * MEAN_LENGTH,
        "decay_rate": 0.5,
        "decay_start": 8 * EPOCH,
        "decay_every": EPOCH,
        "clip": 5.0 / MEAN_LENGTH,
    }
    config.metrics = ("bleu_words", "bleu_words_replaced", "perplexity", "truncated")
    config.lengths = (11, 21, 31, 41, 51, 61, 101)  # intervals of ten words and the end token
    config.decode = {
        "width": 10,
        "dev_width": 1,
        "length_penalty": 1.0,
        "extra": 50,
        "dictionary": "",
    }

    config.train = {
        "steps": 12 * EPOCH,
        "accumulate": 1,
        "log_every": 100,
        "eval_every": EPOCH // 2,
        "checkpoint_every": 1000,
        "keep": 2,
        "average": 1,
        "best": "dev/perplexity",
        "best_mode": "min",
        "init_from": "none",
    }
    config.mesh = {"data": -1, "fsdp": 1, "tensor": 1}
    config.cpu_devices = 1

    if variant == "smoke":
        config.vocabulary.size = 500
        config.batching.update(tokens=256, buckets=(12,))
        config.model.update(embedding=8, hidden=16, layers=1)
        config.model.encoder.update(layers=1, width=16)
        config.model.attention.update(width=8, half_width=2, max_source_length=12)
        config.decode.update(width=2, extra=4)
        config.train.update(steps=4, log_every=1, eval_every=4, checkpoint_every=2)
    elif variant:
        raise ValueError(f"there is no variant {variant!r}, only 'smoke'")
    return config
