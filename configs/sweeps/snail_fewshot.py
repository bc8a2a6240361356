"""SNAIL on few-shot classification: Omniglot with 5 and 20 classes, and mini-ImageNet with 5.

Mishra et al. 2018, Tables 1 and 2, accuracies with one and five shots: Omniglot 5-way 99.07 +- 0.16
and 99.78 +- 0.09, 20-way 97.64 +- 0.30 and 99.36 +- 0.18; mini-ImageNet 5-way 55.71 +- 0.99 and
68.88 +- 0.92. A model is trained on one to five shots and evaluated on both.

    python sweep.py --sweep=configs/sweeps/snail_fewshot.py --launcher=slurm

The docstrings of configs/snail_omniglot.py and configs/snail_miniimagenet.py say which files belong
to `data/omniglot` and `data/miniimagenet`.
"""

from functools import partial

from training.plots import metric_bars
from training.sweeps import Run

METRICS = ("test/accuracy_1_shot", "test/accuracy_5_shot")
OMNIGLOT, IMAGENET = "configs/snail_omniglot.py", "configs/snail_miniimagenet.py"
DATA = {OMNIGLOT: "data/omniglot", IMAGENET: "data/miniimagenet"}
PUBLISHED = {
    ("Omniglot", OMNIGLOT, 5): (0.9907, 0.9978),
    ("Omniglot", OMNIGLOT, 20): (0.9764, 0.9936),
    ("mini-ImageNet", IMAGENET, 5): (0.5571, 0.6888),
}


def runs():
    """Yield a run for each dataset and number of classes."""
    for (dataset, config, ways), accuracies in PUBLISHED.items():
        yield Run(
            config=config,
            labels={"dataset": dataset, "ways": ways},
            overrides={"data.ways": ways, "data.data_dir": DATA[config]},
            paper=dict(zip(METRICS, accuracies, strict=True)),
        )


figure = partial(metric_bars, metrics=METRICS)
