"""SNAIL on few-shot classification: Omniglot with 5 and 20 classes, and mini-ImageNet with 5.

Mishra et al. 2018, Tables 1 and 2, accuracies with one and five shots. A model is trained on one to
five shots and evaluated on both.

    python sweep.py --sweep=configs/sweeps/snail_fewshot.py --launcher=slurm

The docstrings of configs/snail_omniglot.py and configs/snail_miniimagenet.py say which files belong
to `data/omniglot` and `data/miniimagenet`.

Sized for GPUs: a run is as long as that of its config. Not yet trained.
"""

from functools import partial

from configs.papers import printed
from training.plots import metric_bars
from training.sweeps import Run

METRICS = ("test/accuracy_1_shot", "test/accuracy_5_shot")
OMNIGLOT, IMAGENET = "configs/snail_omniglot.py", "configs/snail_miniimagenet.py"
DATA = {OMNIGLOT: "data/omniglot", IMAGENET: "data/miniimagenet"}
MODELS = (
    ("Omniglot", OMNIGLOT, 5, "table 1"),
    ("Omniglot", OMNIGLOT, 20, "table 1"),
    ("mini-ImageNet", IMAGENET, 5, "table 2"),
)


def runs():
    """Yield a run for each dataset and number of classes."""
    for dataset, config, ways, table in MODELS:
        rows = (f"mishra2018/{table}/{dataset}, {ways}-way",)
        yield Run(
            config=config,
            labels={"dataset": dataset, "ways": ways},
            overrides={"data.ways": ways, "data.data_dir": DATA[config]},
            rows=rows,
            paper=printed(rows),
        )


figure = partial(metric_bars, metrics=METRICS)
