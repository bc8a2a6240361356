r"""SNAIL on the official one-shot runs of Omniglot, trained on each of the small background sets.

Lake et al. 2019, "The Omniglot challenge: a 3-year progress report": the prototypical network has
an error of about 0.30, the mean of both sets.

    python sweep.py --sweep=configs/sweeps/snail_omniglot_small.py --parallel=2 \
        --config.cpu_devices=1

The archives named in configs/snail_omniglot_small.py are read from `data/omniglot`;
`--config.data.data_dir=DIR` sets another directory.

Sized for a laptop: half an hour per run on one CPU core.
"""

from functools import partial

from configs.papers import printed
from training.plots import metric_bars
from training.sweeps import Run

METRICS = ("test/one_shot_error", "test/one_shot_error_hausdorff")


def runs():
    """Yield a run for each background set."""
    rows = ("lake2019/one-shot classification/prototypical net, small background sets",)
    for number in (1, 2):
        yield Run(
            config="configs/snail_omniglot_small.py",
            labels={"background": f"small set {number}"},
            overrides={
                "data.source": f"omniglot_small{number}",
                "data.data_dir": "data/omniglot",
            },
            rows=rows,
            paper=printed(rows),
        )


figure = partial(metric_bars, metrics=METRICS)
