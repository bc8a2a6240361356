"""Scores and alignments of Luong et al. 2015: the ladder of Table 1 and the grid of Table 4.

The paper's figures are of WMT 2014 En-De with models of 4 layers of 1000; here the corpus is
Multi30k, and what can be compared is the order. Its concat score did badly for a mistake in the
code, so the additive one, which is the same thing, has no figure there.

    python sweep.py --sweep=configs/sweeps/luong_scores.py --parallel=2 --config.data.dir=FOLDER

Sized for a laptop: about an hour a run on two CPU cores, 13 runs; `--config.train.steps=1300`
takes a third of it.
"""

from functools import partial
from typing import Any

from training.plots import metric_bars
from training.sweeps import Run

# What is changed, and the perplexity and BLEU printed: before words were put in for <unk>.
BASE = {
    "model.attention.alignment": "none",
    "model.attention.score": "location",
    "model.encoder.direction": "forward",
    "model.input_feeding": False,
    "model.dropout": 0.0,
}
LADDER: tuple[tuple[str, dict[str, Any], tuple], ...] = (  # Table 1, each with those above it
    ("base", {}, (10.6, 11.3)),
    ("and reverse", {"model.encoder.direction": "reverse"}, (9.9, 12.6)),
    ("and dropout", {"model.dropout": 0.2}, (8.1, 14.0)),
    ("and global location", {"model.attention.alignment": "soft"}, (7.3, 16.8)),
    ("and feed", {"model.input_feeding": True}, (6.4, 18.1)),
)
GRID = {  # Table 4, each with all of the above
    ("soft", "dot"): (6.1, 18.6),
    ("soft", "general"): (6.1, 17.3),
    ("soft", "additive"): None,
    ("local_m", "dot"): (7.0, None),
    ("local_m", "general"): (6.2, 18.6),
    ("local_p", "dot"): (6.6, 18.0),
    ("local_p", "general"): (5.9, 19.0),
    ("local_p", "additive"): None,
}
METRICS = ("test/perplexity", "test/bleu")


def runs():
    overrides: dict[str, Any] = dict(BASE)
    for name, changes, printed in LADDER:
        overrides |= changes
        yield _run(name, overrides, printed)
    for (alignment, score), figures in GRID.items():
        changes = {"model.attention.alignment": alignment, "model.attention.score": score}
        yield _run(f"{alignment} {score}", overrides | changes, figures or (None, None))


def _run(name, overrides, printed):
    paper = zip(("wmt14/perplexity", "wmt14/bleu"), printed, strict=True)
    return Run(
        config="configs/seq2seq_multi30k.py",
        labels={"model": name},
        overrides=dict(overrides),
        paper={measure: figure for measure, figure in paper if figure is not None},
    )


figure = partial(metric_bars, metrics=(*METRICS, "wmt14/perplexity", "wmt14/bleu"))
