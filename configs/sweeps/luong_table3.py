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

from configs.sweeps.luong_table1 import BASE, DROPOUT, LOCATION, METRICS, cumulative_runs
from training.plots import metric_bars

DOT: dict[str, Any] = {"model.attention.score": "dot"}
ROWS: dict[str, dict[str, Any]] = {  # overrides; each row includes those above it
    "base (reverse)": {"model.encoder.direction": "reverse"},
    "+ global (location)": LOCATION,
    "+ feed": {"model.input_feeding": True},
    "+ global (dot) + drop + feed, + unk": DROPOUT | DOT,
}

runs = partial(cumulative_runs, "table 3", BASE | {"data.source": "de", "data.target": "en"}, ROWS)
figure = partial(metric_bars, metrics=METRICS)
