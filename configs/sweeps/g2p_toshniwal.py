"""Global and local attention on grapheme-to-phoneme conversion: Toshniwal & Livescu 2016, table 1.

The paper's error rates are means of 5 larger models on the CMUdict split of 2007. To use that
split: `--config.data.dir=DIRECTORY`. The default, the current CMUdict, is harder, so only the order
of the alignments is comparable.

    python sweep.py --sweep=configs/sweeps/g2p_toshniwal.py --parallel=2

Sized for a laptop: about an hour per run on two CPU cores.
"""

from functools import partial

from configs.papers import printed
from training.plots import metric_bars
from training.sweeps import Run

ALIGNMENTS = {"soft": "global", "local_m": "local-m", "local_p": "local-p"}  # the paper's names
METRICS = ("test/per", "test/wer")
SMALL = {  # smaller and shorter than configs/seq2seq_g2p.py
    "model.hidden": 256,
    "model.encoder.width": 256,
    "optimizer.learning_rate": 2e-3,
    "train.steps": 7_600,
    "train.eval_every": 760,
    "train.checkpoint_every": 190,
    "train.keep": 5,
    "train.average": 5,
}


def runs():
    for alignment, name in ALIGNMENTS.items():
        rows = (f"toshniwal2016/table 1/{name}",)
        yield Run(
            config="configs/seq2seq_g2p.py",
            labels={"alignment": alignment},
            overrides={**SMALL, "model.attention.alignment": alignment},
            rows=rows,
            paper=printed(rows),
        )


figure = partial(metric_bars, metrics=(*METRICS, "cmudict_2007/per", "cmudict_2007/wer"))
