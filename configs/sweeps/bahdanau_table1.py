"""Table 1 and Figure 2 of Bahdanau et al. 2015: fixed vector and attention, two training lengths.

RNNencdec is RNNsearch with a forward encoder and one fixed vector for the source. The figure shows
BLEU by source length.

    python sweep.py --sweep=configs/sweeps/bahdanau_table1.py --config.data.dir=DIRECTORY

Paper: BLEU of all sentences and of those without unknown words 13.93 and 24.19 (RNNencdec-30),
21.50 and 31.44 (RNNsearch-30), 17.82 and 26.71 (RNNencdec-50), 26.75 and 34.16 (RNNsearch-50).
RNNsearch-50*, 28.45 and 36.15, is trained until the dev BLEU stops improving; here it is
"RNNsearch-50 long".

Sized for the paper: 5 runs of days on one accelerator, see configs/seq2seq_bahdanau_wmt14.py.
"""

from functools import partial

from configs.papers import printed
from training.plots import metric_by_length
from training.sweeps import Run

ROWS = {  # alignment, longest training sentence, updates
    "RNNencdec-30": ("none", 30, 252_000),
    "RNNsearch-30": ("soft", 30, 252_000),
    "RNNencdec-50": ("none", 50, 252_000),
    "RNNsearch-50": ("soft", 50, 252_000),
    "RNNsearch-50*": ("soft", 50, 667_000),
}
# The encoder of RNNencdec has one direction.
FORWARD = {"model.encoder.direction": "forward", "model.encoder.width": 1_000}
METRICS = ("test/bleu_words", "test/bleu_words_known")


def runs():
    for row, (alignment, longest, steps) in ROWS.items():
        rows = (f"bahdanau2015/table 1/{row}", "bahdanau2015/figure 2/BLEU by length")
        yield Run(
            config="configs/seq2seq_bahdanau_wmt14.py",
            labels={"model": row.replace("*", " long")},
            overrides={
                "model.attention.alignment": alignment,
                **(FORWARD if alignment == "none" else {}),
                "max_training_length": longest,
                "train.steps": steps,
            },
            rows=rows,
            paper=printed(rows),
        )


figure = partial(metric_by_length, metric="bleu_words")
