"""Soft, hard, straight-through and no attention in captions of scenes of digits.

After Xu et al. 2015, Table 1; and every score with soft attention. No printed row: the scenes are
generated. The doubly stochastic penalty is not used (see configs/captioning_scenes.py). Without
attention every word reads the mean annotation.

    python sweep.py --sweep=configs/sweeps/captioning_attention.py --parallel=2

In the paper hard attention is ahead of soft attention by 0.7 to 1.8 BLEU-4. Here it is behind by
29; results/captioning_attention discusses why.

Sized for a laptop: 17 runs of 4,000 steps, each five minutes on one CPU core.
"""

from functools import partial

from training.plots import metric_bars
from training.sweeps import Run

ALIGNMENTS = ("soft", "hard", "straight_through", "none")
SCORES = ("content", "location", "general", "dot", "scaled_dot")  # besides additive
STEPS = 4_000
METRICS = ("test/bleu_4", "test/pointing", "test/exact_match")


def runs():
    """Yield three seeds of each alignment with the additive score, and one of the other scores."""
    variants = [("additive", alignment, seed) for alignment in ALIGNMENTS for seed in (0, 1, 2)]
    variants += [(score, "soft", 0) for score in SCORES]
    for score, alignment, seed in variants:
        yield Run(
            config="configs/captioning_scenes.py",
            labels={"attention": f"{alignment}, {score}", "seed": seed},
            overrides={
                "task": "captioning.hard_attention" if alignment == "hard" else "captioning",
                "model.attention.score": score,
                "model.attention.alignment": alignment,
                "seed": seed,
                "train.steps": STEPS,
                "cpu_devices": 1,
            },
        )


figure = partial(metric_bars, metrics=METRICS)
