"""Attention, a residual block of as many weights, or nothing, by where it stands.

After Zhang et al. 2019, Table 1, there on ImageNet at 128 x 128, here on digits at 32 x 32, where
maps of both networks are of 8 x 8 or 16 x 16:

    python sweep.py --sweep=configs/sweeps/sagan_attention.py --parallel=2

The paper prints, for 128 x 128 (FID / Inception Score): none 22.96 / 42.87; attention at 8, 16, 32
and 64: 22.98 / 43.15, 22.14 / 45.94, 18.28 / 51.43, 18.65 / 52.52; the residual block in its place:
42.13 / 23.17, 22.40 / 44.49, 27.33 / 38.50, 28.82 / 38.96. None of these is a figure for digits, so
none stands in the table.
"""

from functools import partial

from training.plots import bars
from training.sweeps import Run

METRICS = ("test/fid_classifier", "test/class_accuracy", "test/recall_classifier")


def runs():
    """Three seeds of each."""
    places = [("none", 16), ("residual", 8), ("residual", 16), ("self", 8), ("self", 16)]
    for attention, feature in places:
        for seed in (0, 1, 2):
            yield Run(
                config="configs/sagan_digits.py",
                labels={
                    "block": attention if attention == "none" else f"{attention} at {feature}",
                    "seed": seed,
                },
                overrides={"model.attention": attention, "model.feature": feature, "seed": seed},
            )


figure = partial(bars, metrics=METRICS)
