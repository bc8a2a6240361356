"""Table 1 of Luong et al. 2015, English-German, and Figures 5 and 6: from no attention to local-p.

    python sweep.py --sweep=configs/sweeps/luong_table1.py --config.data.dir=DIRECTORY

`paper` of the runs: perplexity, BLEU (`bleu_words`) and BLEU after the replacement of unknown
words. The learning curves of Figure 5 are `dev/perplexity` in the `metrics.jsonl` of the runs. The
figure of the sweep is Figure 6, BLEU by source length.

Paper: perplexity and BLEU 10.6 and 11.3 (base), 9.9 and 12.6 (reversed source), 8.1 and 14.0
(dropout), 7.3 and 16.8 (global, location), 6.4 and 18.1 (input feeding), 5.9 and 19.0 (local-p,
general), 20.9 with replacement of unknown words. Ensemble of 8 models with different attention,
with and without dropout: 23.0, by `eval.py` with `--workdir` of each.

Deviation: without attention, every decoder step reads the summary of the source; in the paper's
base, only the initial state depends on the source.

Sized for the paper: 6 runs of days on one accelerator, see configs/seq2seq_luong_wmt14.py.
"""

from functools import partial
from typing import Any

from configs.papers import printed
from configs.seq2seq_luong_wmt14 import EPOCH
from training.plots import metric_by_length
from training.sweeps import Run

REPLACED = ("bleu_words", "bleu_words_replaced", "perplexity", "truncated")
# Without attention, unknown words cannot be replaced.
BASE: dict[str, Any] = {
    "metrics": ("bleu_words", "perplexity", "truncated"),
    "model.attention.alignment": "none",
    "model.attention.score": "location",
    "model.encoder.direction": "forward",
    "model.input_feeding": False,
    "model.dropout": 0.0,
    "optimizer.decay_start": 5 * EPOCH,
    "train.steps": 10 * EPOCH,
}
DROPOUT: dict[str, Any] = {
    "model.dropout": 0.2,
    "optimizer.decay_start": 8 * EPOCH,
    "train.steps": 12 * EPOCH,
}
LOCATION: dict[str, Any] = {"model.attention.alignment": "soft", "metrics": REPLACED}
LOCAL_P: dict[str, Any] = {
    "model.attention.alignment": "local_p",
    "model.attention.score": "general",
}
ROWS: dict[str, dict[str, Any]] = {  # overrides; each row includes those above it
    "base": {},
    "+ reverse": {"model.encoder.direction": "reverse"},
    "+ dropout": DROPOUT,
    "+ global (location)": LOCATION,
    "+ feed input": {"model.input_feeding": True},
    "local-p (general) + feed input, + unk replace": LOCAL_P,
}
FIGURES = ("luong2015/figure 5/learning curves", "luong2015/figure 6/BLEU by length")
METRICS = ("test/perplexity", "test/bleu_words", "test/bleu_words_replaced")


def cumulative_runs(table, overrides, rows, figures=()):
    """Yield the runs of a table in which each row keeps the changes of the rows above it.

    Args:
        table: name of the table in configs/papers/luong2015.py.
        overrides: config values that all rows share.
        rows: further overrides by row.
        figures: rows of figures that all runs reproduce.
    """
    for row, changes in rows.items():
        overrides = overrides | changes
        names = (f"luong2015/{table}/{row}", *figures)
        yield Run(
            config="configs/seq2seq_luong_wmt14.py",
            labels={"model": row},
            overrides=overrides,
            rows=names,
            paper=printed(names),
        )


runs = partial(cumulative_runs, "table 1", BASE, ROWS, FIGURES)
figure = partial(metric_by_length, metric="bleu_words")
