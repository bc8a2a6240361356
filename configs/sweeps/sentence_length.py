"""What attention is for: long sentences. Figure 2 of Bahdanau et al. 2015, on numbers in words.

RNNsearch beside the encoder–decoder of Cho et al. 2014, which has one vector for the whole source.
The paper draws BLEU against the words of a sentence: RNNsearch stays level where the other falls
from about 20 words on. Here it is the share of numbers that are all right against the pieces of
their wording; dashed are those with more digits than any in training.

    python sweep.py --sweep=configs/sweeps/sentence_length.py --parallel=2

Sized for a laptop: minutes a run on two CPU cores.
"""

from functools import partial

from training.plots import metric_by_length
from training.sweeps import Run

LENGTHS = (6, *range(7, 20))  # the end of the sentence among them
METRICS = ("test/exact_match", "test_long/exact_match")


def runs():
    for name, alignment in (("RNNsearch", "soft"), ("no attention", "none")):
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
