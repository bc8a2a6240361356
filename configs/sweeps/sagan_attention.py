"""Self-attention, a residual block with as many weights, or neither, by attention resolution.

After Zhang et al. 2019, Table 1, on digits at 32 x 32 instead of ImageNet at 128 x 128. Both
networks have maps of 8 x 8 and 16 x 16.

    python sweep.py --sweep=configs/sweeps/sagan_attention.py --parallel=2

No printed row: results on digits are not comparable with the paper's at 128 x 128, which are in
configs/papers/zhang2019.py.

Sized for a laptop: runs of minutes on one CPU core, see results/sagan_attention.
"""

from functools import partial

from configs.papers import printed
from training.plots import metric_bars
from training.sweeps import Run

METRICS = ("test/fid_classifier", "test/class_accuracy", "test/recall_classifier")


def block_run(config, attention, resolution, *, rows=(), labels=None, overrides=None):
    """Return the run with a kind of block in both networks, at a resolution of their maps."""
    block = attention if attention == "none" else f"{attention} at {resolution}"
    return Run(
        config=config,
        labels={"block": block} | (labels or {}),
        overrides={"model.attention": attention, "model.attention_resolution": resolution}
        | (overrides or {}),
        rows=rows,
        paper=printed(rows),
    )


def runs():
    """Yield three seeds of each block."""
    blocks = [("none", 16), ("residual", 8), ("residual", 16), ("self", 8), ("self", 16)]
    for attention, resolution in blocks:
        for seed in (0, 1, 2):
            yield block_run(
                "configs/sagan_digits.py",
                attention,
                resolution,
                labels={"seed": seed},
                overrides={"seed": seed},
            )


figure = partial(metric_bars, metrics=METRICS)
