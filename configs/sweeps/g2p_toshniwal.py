"""Global and local attention on pronunciations: Table 1 of Toshniwal & Livescu 2016.

Its error rates are of the CMUdict split of 2007, of larger models, means of 5: global 5.04% of
phonemes and 21.69% of words, local-m 5.11 and 21.85, local-p 5.39 and 22.83. With that split's
files in FOLDER: `--config.data.dir=FOLDER`. Today's dictionary, which is the default, is harder:
compare the rows with each other then.

    python sweep.py --sweep=configs/sweeps/g2p_toshniwal.py --parallel=2

Sized for a laptop: about an hour a run on two CPU cores.
"""

from functools import partial

from training.plots import metric_bars
from training.sweeps import Run

PAPER = {  # per, wer
    "soft": (0.0504, 0.2169),
    "local_m": (0.0511, 0.2185),
    "local_p": (0.0539, 0.2283),
}
METRICS = ("test/per", "test/wer")


def runs():
    for alignment, (per, wer) in PAPER.items():
        yield Run(
            config="configs/seq2seq_g2p.py",
            labels={"alignment": alignment},
            overrides={"model.attention.alignment": alignment},
            paper={"cmudict_2007/per": per, "cmudict_2007/wer": wer},
        )


figure = partial(metric_bars, metrics=(*METRICS, "cmudict_2007/per", "cmudict_2007/wer"))
