"""Table 3 of Luong et al. 2015: German-English, newstest2015 (the paper's test set of this table).

    python sweep.py --sweep=configs/sweeps/luong_table3.py --config.data.dir=DIRECTORY

`data.dir` as in configs/seq2seq_luong_wmt14.py, with newstest2015 as test.*.

Paper: perplexity and BLEU 14.3 and 16.9 (base, reversed source), 12.7 and 19.1 (global, location),
10.9 and 20.1 (input feeding), 9.7 and 22.8 (global, dot, dropout and input feeding), 24.9 with
replacement of unknown words.

Sized for the paper: 4 runs of days on one accelerator, see configs/seq2seq_luong_wmt14.py.
"""

from functools import partial
from typing import Any

from configs.sweeps.luong_table1 import BASE, DROPOUT, LOCATION, METRICS
from training.plots import metric_bars
from training.sweeps import Run

DOT: dict[str, Any] = {"model.attention.score": "dot"}
ROWS: tuple[tuple[str, dict[str, Any], tuple], ...] = (  # each row includes those above it
    ("base reverse", {"model.encoder.direction": "reverse"}, (14.3, 16.9)),
    ("global location", LOCATION, (12.7, 19.1)),
    ("feed input", {"model.input_feeding": True}, (10.9, 20.1)),
    ("global dot dropout", DROPOUT | DOT, (9.7, 22.8, 24.9)),
)


def runs():
    overrides = BASE | {"data.source": "de", "data.target": "en"}
    for name, changes, results in ROWS:
        overrides |= changes
        yield Run(
            config="configs/seq2seq_luong_wmt14.py",
            labels={"model": name},
            overrides=dict(overrides),
            paper=dict(zip(METRICS, results, strict=False)),
        )


figure = partial(metric_bars, metrics=METRICS)
