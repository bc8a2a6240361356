"""How many heads: row A of Table 3 of Vaswani et al. 2017, on numbers in words.

The paper keeps the computation as it is: h heads of width 512 / h. Here they are of width 128 / h,
on a corpus that takes minutes. It prints BLEU of 24.9 for one head on WMT 2014 (newstest2013),
25.5 for 4 and 25.8 for 8: several heads are better than one.

    python sweep.py --sweep=configs/sweeps/transformer_heads.py --parallel=2

Sized for a laptop: five minutes a run on two CPU cores.
"""

from functools import partial

from training.plots import bars
from training.sweeps import Run

WIDTH = 128
PAPER = {1: 24.9, 4: 25.5, 8: 25.8}
METRICS = ("test/exact_match", "test_long/exact_match")


def runs():
    for heads in (1, 2, 4, 8):
        per_head = WIDTH // heads
        yield Run(
            config="configs/transformer_nmt.py",
            labels={"heads": heads},
            overrides={
                "model.heads": heads,
                "model.key_width": per_head,
                "model.value_width": per_head,
            },
            paper={"dev/bleu": PAPER[heads]} if heads in PAPER else {},
        )


figure = partial(bars, metrics=(*METRICS, "dev/bleu"))
