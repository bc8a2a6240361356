"""Accuracy by sentence length with and without attention: Bahdanau et al. 2015, figure 2.

RNNsearch is compared with the encoder-decoder of Cho et al. 2014, which has one fixed vector for
the source. In the paper, the BLEU of RNNsearch does not depend on the sentence length, and the BLEU
of the control decreases from about 20 words. Here the metric is exact match of English-German
number words by source length in tokens. No printed row: the corpus is generated. Dashed lines are
numbers with more nonzero digits than in training.

    python sweep.py --sweep=configs/sweeps/sentence_length.py --parallel=2

Sized for a laptop: a few minutes per run on two CPU cores.
"""

from functools import partial

from training.plots import metric_by_length
from training.sweeps import Run

LENGTHS = (6, *range(7, 20))  # in tokens, including the end of the sentence
MODELS = {"RNNsearch": "soft", "no attention": "none"}  # alignments
METRICS = ("test/exact_match", "test_long/exact_match")


def runs():
    for name, alignment in MODELS.items():
        for seed in (0, 1, 2):
            yield Run(
                config="configs/seq2seq_nmt.py",
                labels={"model": name, "seed": seed},
                overrides={
                    "model.attention.alignment": alignment,
                    "seed": seed,
                    "lengths": LENGTHS,
                },
            )


figure = partial(metric_by_length, metric="exact_match")
