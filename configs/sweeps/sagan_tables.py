r"""Self-attention at four resolutions, a residual block with as many weights, or neither.

Zhang et al. 2019, Table 1, FID and Inception Score on ImageNet at 128 x 128. The run without
attention is also the projection-based SNGAN of Table 2 (27.62 / 36.8 there), trained with this
paper's recipe; attention at 64 is SAGAN's row of Table 2.

    python sweep.py --sweep=configs/sweeps/sagan_tables.py --launcher=slurm \
        --config.data.data_dir=DIR --config.evaluation.inception_weights=FILE

Both networks have the block at the same resolution. configs/sweeps/sagan_attention.py makes the
comparison on digits.

Sized for accelerators: a run is as long as that of configs/sagan_imagenet128.py. Not yet trained.
"""

from functools import partial

from configs.papers.zhang2019 import VALUES, row_of
from configs.sweeps.sagan_attention import block_run
from training.plots import metric_bars

METRICS = ("test/fid", "test/inception_score")


def runs():
    """Yield a run for each column and row of the table."""
    for attention, resolution in VALUES:
        yield block_run(
            "configs/sagan_imagenet128.py",
            attention,
            resolution,
            rows=(row_of(attention, resolution),),
            overrides={"data.resolution": 128},  # also in smoke runs
        )


figure = partial(metric_bars, metrics=METRICS)
