"""Every score with four alignments in RNNsearch, on English-German number words.

Scores: content-based (Graves et al. 2014), additive (Bahdanau et al. 2015), location, general and
dot (Luong et al. 2015), scaled dot (Vaswani et al. 2017). Alignments: soft, hard (Xu et al. 2015),
local-m and local-p (Luong et al. 2015). No printed row: no paper has this table.

    python sweep.py --sweep=configs/sweeps/attention_grid.py --parallel=2

Sized for a laptop: 24 runs of a few minutes on two CPU cores.
"""

from functools import partial

from training.plots import metric_heatmap
from training.sweeps import Run

SCORES = ("content", "additive", "location", "general", "dot", "scaled_dot")
TASKS = {
    "soft": "translation",
    "hard": "translation.hard_attention",
    "local_m": "translation",
    "local_p": "translation",
}
METRICS = ("test/exact_match", "test_long/exact_match")


def runs(config="configs/seq2seq_nmt.py"):
    for score in SCORES:
        for alignment, task in TASKS.items():
            yield Run(
                config=config,
                labels={"score": score, "alignment": alignment},
                overrides={
                    "task": task,
                    "model.attention.score": score,
                    "model.attention.alignment": alignment,
                },
            )


figure = partial(metric_heatmap, metric="test/exact_match", rows="score", columns="alignment")
