"""Tables 4 and 6 of Luong et al. 2015: attention architectures, English-German.

    python sweep.py --sweep=configs/sweeps/luong_table4.py --config.data.dir=DIRECTORY

Printed results: configs/papers/luong2015.py.

Table 6, alignment error rate of the same runs, by `eval.py --alignments` as described in
configs/seq2seq_luong_wmt14.py. Paper: 0.39 (global, location), 0.34 (local-m, general), 0.36
(local-p, general), 0.34 (ensemble, `--workdir` of several runs).

The concat score of the paper is the additive score here. The paper reports that its implementation
did not perform well (perplexity 6.7 with global attention).

Sized for the paper: 7 runs of days on one accelerator, see configs/seq2seq_luong_wmt14.py.
"""

from functools import partial

from configs import papers
from configs.sweeps.luong_table1 import METRICS
from training.plots import metric_bars
from training.sweeps import Run

ALIGNMENTS = {"soft": "global", "local_m": "local-m", "local_p": "local-p"}  # the paper's names
# The paper has no local-m with location-based scores, and no BLEU of local-m with dot.
MODELS = (
    ("soft", "location"),
    ("soft", "dot"),
    ("soft", "general"),
    ("local_m", "dot"),
    ("local_m", "general"),
    ("local_p", "dot"),
    ("local_p", "general"),
)


def runs():
    for alignment, score in MODELS:
        name = f"{ALIGNMENTS[alignment]} ({score})"
        tables = (f"luong2015/table 4/{name}", f"luong2015/table 6/{name}")
        rows = tuple(row for row in tables if row in papers.rows())
        yield Run(
            config="configs/seq2seq_luong_wmt14.py",
            labels={"alignment": alignment, "score": score},
            overrides={"model.attention.alignment": alignment, "model.attention.score": score},
            rows=rows,
            paper=papers.printed(rows),
        )


figure = partial(metric_bars, metrics=METRICS)
