"""Scores and alignments of Luong et al. 2015: models of tables 1 and 4.

The paper's results are on WMT 2014 English-German, for models with 4 layers of width 1000. No
printed row: the corpus is Multi30k, so only the order of the models is comparable. Table 4 omits
the concat score, whose implementation in the paper did not perform well. The additive score is the
same function, so the additive models have no result to compare with.

    python sweep.py --sweep=configs/sweeps/luong_scores.py --parallel=2 --config.data.dir=DIRECTORY

Runs have about a quarter of the steps of `seq2seq_multi30k`. Sized for a laptop: 13 runs of seven
minutes on one CPU core.
"""

from functools import partial
from typing import Any

from training.plots import metric_bars
from training.sweeps import Run

BASE = {
    "model.attention.alignment": "none",
    "model.attention.score": "location",
    "model.encoder.direction": "forward",
    "model.input_feeding": False,
    "model.dropout": 0.0,
    "train.steps": 2_500,
    "train.eval_every": 1_250,
}
# Overrides, and the paper's perplexity and BLEU before the replacement of unknown words.
TABLE_1: tuple[tuple[str, dict[str, Any], tuple], ...] = (  # each row includes those above it
    ("base", {}, (10.6, 11.3)),
    ("with reversed source", {"model.encoder.direction": "reverse"}, (9.9, 12.6)),
    ("with dropout", {"model.dropout": 0.2}, (8.1, 14.0)),
    ("with global attention", {"model.attention.alignment": "soft"}, (7.3, 16.8)),
    ("with input feeding", {"model.input_feeding": True}, (6.4, 18.1)),
)
TABLE_4: dict[tuple[str, str], tuple] = {  # each with all options of table 1
    ("soft", "dot"): (6.1, 18.6),
    ("soft", "general"): (6.1, 17.3),
    ("soft", "additive"): (None, None),
    ("local_m", "dot"): (7.0, None),
    ("local_m", "general"): (6.2, 18.6),
    ("local_p", "dot"): (6.6, 18.0),
    ("local_p", "general"): (5.9, 19.0),
    ("local_p", "additive"): (None, None),
}
METRICS = ("test/perplexity", "test/bleu")


def runs():
    overrides: dict[str, Any] = dict(BASE)
    for name, changes, results in TABLE_1:
        overrides |= changes
        yield _run(name, overrides, results)
    for (alignment, score), results in TABLE_4.items():
        changes = {"model.attention.alignment": alignment, "model.attention.score": score}
        yield _run(f"{alignment} {score}", overrides | changes, results)


def _run(name, overrides, results):
    paper = zip(("wmt14/perplexity", "wmt14/bleu"), results, strict=True)
    return Run(
        config="configs/seq2seq_multi30k.py",
        labels={"model": name},
        overrides=dict(overrides),
        paper={metric: value for metric, value in paper if value is not None},
    )


figure = partial(metric_bars, metrics=(*METRICS, "wmt14/perplexity", "wmt14/bleu"))
