"""Global and local attention on grapheme-to-phoneme conversion: Toshniwal & Livescu 2016, table 1.

The paper's error rates are means of 5 larger models on the CMUdict split of 2007: global PER 5.04
and WER 21.69 %, local-m 5.11 and 21.85 %, local-p 5.39 and 22.83 %. To use that split:
`--config.data.dir=DIRECTORY`. The default, the current CMUdict, is harder, so only the order of the
alignments is comparable.

    python sweep.py --sweep=configs/sweeps/g2p_toshniwal.py --parallel=2

Sized for a laptop: about an hour per run on two CPU cores.
"""

from functools import partial

from training.plots import metric_bars
from training.sweeps import Run

PAPER = {  # PER, WER
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
