r"""BLEU by sentence length with and without attention on Multi30k; see `sentence_length`.

No printed row: figure 2 of Bahdanau et al. 2015 is on WMT 2014 English-French. Lengths are in
tokens of the source, including the end of the sentence.

    python sweep.py --sweep=configs/sweeps/sentence_length_multi30k.py --parallel=2 \
        --config.data.dir=DIRECTORY

Sized for a laptop: two runs of eight minutes on one CPU core.
"""

from functools import partial

from configs.sweeps.sentence_length import MODELS
from training.plots import metric_by_length
from training.sweeps import Run

METRICS = ("test/bleu_tok_lc", "test/perplexity")


def runs():
    for name, alignment in MODELS.items():
        yield Run(
            config="configs/seq2seq_caglayan_multi30k.py",
            labels={"model": name},
            overrides={
                "model.attention.alignment": alignment,
                "batching.tokens": 1024,
                "optimizer.learning_rate": 1e-3,
                "train.steps": 2_500,
                "lengths": (10, 12, 14, 16, 18, 21, 25, 60),
            },
        )


figure = partial(metric_by_length, metric="bleu_tok_lc")
