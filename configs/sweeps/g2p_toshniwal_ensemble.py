"""Table 1 of Toshniwal & Livescu 2016 at the paper's size: 5 models of each kind of attention.

    python sweep.py --sweep=configs/sweeps/g2p_toshniwal_ensemble.py --config.data.dir=DIRECTORY

Paper, means of 5 models on the CMUdict split of 2007: PER 5.04 and WER 21.69 % (global), 5.11 and
21.85 % (local-m), 5.39 and 22.83 % (local-p). Ensemble of the 5 global models: PER 4.69 and WER
20.24 %, by `eval.py`, see configs/seq2seq_g2p_toshniwal.py.

Sized for the paper: 15 runs of 100 epochs on one accelerator.
"""

from configs.papers import printed
from configs.sweeps.g2p_toshniwal import ALIGNMENTS, METRICS, figure
from training.sweeps import Run

__all__ = ["METRICS", "figure", "runs"]


def runs():
    for alignment, name in ALIGNMENTS.items():
        rows: tuple[str, ...] = (f"toshniwal2016/table 1/{name}",)
        if alignment == "soft":
            rows += ("toshniwal2016/table 1/global, ensemble of 5",)
        for seed in range(5):
            yield Run(
                config="configs/seq2seq_g2p_toshniwal.py",
                labels={"alignment": alignment, "seed": seed},
                overrides={"model.attention.alignment": alignment, "seed": seed},
                rows=rows,
                paper=printed(rows),
            )
