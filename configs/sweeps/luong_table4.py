"""Tables 4 and 6 of Luong et al. 2015: attention architectures, English-German.

    python sweep.py --sweep=configs/sweeps/luong_table4.py --config.data.dir=DIRECTORY

Paper, Table 4: perplexity, BLEU, and BLEU after the replacement of unknown words: see PAPER below.
Table 6, alignment error rate of the same runs, by `eval.py --alignments` as described in
configs/seq2seq_luong_wmt14.py: 0.39 (global, location), 0.34 (local-m, general), 0.36 (local-p,
general), 0.34 (ensemble, `--workdir` of several runs).

The concat score of the paper is the additive score, whose implementation in the paper did not
perform well (perplexity 6.7 with global attention).

Sized for the paper: 7 runs of days on one accelerator, see configs/seq2seq_luong_wmt14.py.
"""

from functools import partial

from configs.sweeps.luong_table1 import METRICS
from training.plots import metric_bars
from training.sweeps import Run

PAPER = {  # alignment and score; local-m with dot has no BLEU in the paper
    ("soft", "location"): (6.4, 18.1, 19.3),
    ("soft", "dot"): (6.1, 18.6, 20.5),
    ("soft", "general"): (6.1, 17.3, 19.1),
    ("local_m", "dot"): (7.0,),
    ("local_m", "general"): (6.2, 18.6, 20.4),
    ("local_p", "dot"): (6.6, 18.0, 19.6),
    ("local_p", "general"): (5.9, 19.0, 20.9),
}


def runs():
    for (alignment, score), results in PAPER.items():
        yield Run(
            config="configs/seq2seq_luong_wmt14.py",
            labels={"alignment": alignment, "score": score},
            overrides={"model.attention.alignment": alignment, "model.attention.score": score},
            paper=dict(zip(METRICS, results, strict=False)),
        )


figure = partial(metric_bars, metrics=METRICS)
