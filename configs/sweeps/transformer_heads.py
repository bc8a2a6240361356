"""Number of attention heads, after Table 3, row A, of Vaswani et al. 2017, on English number words.

The paper keeps the computation constant: h heads of width 512 / h. Here the heads have width
128 / h, and the corpus trains within minutes. The paper prints BLEU of 24.9 with 1 head, 25.5 with
4 and 25.8 with 8 on WMT 2014 English-German (newstest2013), so several heads are better than one.
No printed row: the corpus is generated.

    python sweep.py --sweep=configs/sweeps/transformer_heads.py --parallel=2

Sized for a laptop: five minutes per run on two CPU cores.
"""

from functools import partial

from training.plots import metric_bars
from training.sweeps import Run

WIDTH = 128
PAPER_BLEU = {1: 24.9, 4: 25.5, 8: 25.8}
METRICS = ("test/exact_match", "test_long/exact_match")


def runs():
    for heads in (1, 2, 4, 8):
        head_width = WIDTH // heads
        yield Run(
            config="configs/transformer_nmt.py",
            labels={"heads": heads},
            overrides={
                "model.heads": heads,
                "model.key_width": head_width,
                "model.value_width": head_width,
            },
            paper={"wmt14/bleu": PAPER_BLEU[heads]} if heads in PAPER_BLEU else {},
        )


figure = partial(metric_bars, metrics=(*METRICS, "wmt14/bleu"))
