"""Table 1 of Toshniwal & Livescu 2016 at the paper's size: 5 models of each kind of attention.

    python sweep.py --sweep=configs/sweeps/g2p_toshniwal_ensemble.py --config.data.dir=DIRECTORY

Paper, means of 5 models on the CMUdict split of 2007: PER 5.04 and WER 21.69 % (global), 5.11 and
21.85 % (local-m), 5.39 and 22.83 % (local-p). Ensemble of the 5 global models: PER 4.69 and WER
20.24 %, by `eval.py`, see configs/seq2seq_g2p_toshniwal.py.

Sized for the paper: 15 runs of 100 epochs on one accelerator.
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
    for alignment, results in PAPER.items():
        for seed in range(5):
            yield Run(
                config="configs/seq2seq_g2p_toshniwal.py",
                labels={"alignment": alignment, "seed": seed},
                overrides={"model.attention.alignment": alignment, "seed": seed},
                paper=dict(zip(METRICS, results, strict=True)),
            )


figure = partial(metric_bars, metrics=METRICS)
