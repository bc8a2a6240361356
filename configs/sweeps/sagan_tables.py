"""Self-attention at four resolutions, a residual block with as many weights, or neither.

Zhang et al. 2019, Table 1, on ImageNet at 128 x 128, FID / Inception Score: no attention 22.96 /
42.87; attention at 8, 16, 32 and 64: 22.98 / 43.15, 22.14 / 45.94, 18.28 / 51.43 and 18.65 / 52.52;
the residual block: 42.13 / 23.17, 22.40 / 44.49, 27.33 / 38.50 and 28.82 / 38.96. The run without
attention is also the projection-based SNGAN of Table 2 (27.62 / 36.8 there), trained with this
paper's recipe; attention at 64 is SAGAN's row of Table 2.

    python sweep.py --sweep=configs/sweeps/sagan_tables.py --launcher=slurm \
        --config.data.data_dir=DIR --config.evaluation.inception_weights=FILE

Both networks have the block at the same resolution. configs/sweeps/sagan_attention.py makes the
comparison on digits.
"""

from functools import partial

from configs.sweeps.sagan_attention import block_run
from training.plots import metric_bars

METRICS = ("test/fid", "test/inception_score")
PUBLISHED = {
    ("none", 64): (22.96, 42.87),
    ("self", 8): (22.98, 43.15),
    ("self", 16): (22.14, 45.94),
    ("self", 32): (18.28, 51.43),
    ("self", 64): (18.65, 52.52),
    ("residual", 8): (42.13, 23.17),
    ("residual", 16): (22.40, 44.49),
    ("residual", 32): (27.33, 38.50),
    ("residual", 64): (28.82, 38.96),
}


def runs():
    """Yield a run for each column and row of the table."""
    for (attention, resolution), values in PUBLISHED.items():
        yield block_run(
            "configs/sagan_imagenet128.py",
            attention,
            resolution,
            paper=dict(zip(METRICS, values, strict=True)),
            overrides={"data.resolution": 128},  # also in smoke runs
        )


figure = partial(metric_bars, metrics=METRICS)
