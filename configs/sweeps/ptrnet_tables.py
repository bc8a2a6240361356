"""Tables 1 and 2 and section 4.3 of Vinyals et al. 2015: tours, hulls and triangulations by size.

One run per model: TSP with 5, 10, 5 to 20 and 50 cities, convex hulls of 5 to 50 and of 50 points,
Delaunay triangulations of 5 and of 10 points. Reference tours of 50 cities are by local search.

    python sweep.py --sweep=configs/sweeps/ptrnet_tables.py --parallel=2

Paper: tour lengths 2.12 (5 cities), 2.88 (10), 3.88 (20, model of 5 to 20) and 6.09 (50); hull
accuracy 92.0%, 87.0% and 69.6% for 5, 10 and 50 points (model of 5 to 50) and 72.6% for 50 (model
of 50); triangulation accuracy 80.7% for 5 and 22.6% for 10 points.

Sized for a laptop: 8 runs of 15 minutes to 8 hours on two CPU cores, and half a day for the labels
of 50 cities.
"""

from functools import partial
from typing import Any

from training.plots import metric_bars
from training.sweeps import Run

PAPER: dict[str, dict[str, float]] = {
    "tsp_5": {"test/length_n5": 2.12},
    "tsp_10": {"test/length_n10": 2.88},
    "tsp_5-20": {
        "test/length_n5": 2.12,
        "test/length_n10": 2.87,
        "test/length_n20": 3.88,
        "test/length_n25": 4.30,
    },
    "tsp_50": {"test/length_n50": 6.09},
    "hull_5-50": {
        "test/accuracy_n5": 0.920,
        "test/accuracy_n10": 0.870,
        "test/accuracy_n50": 0.696,
    },
    "hull_50": {"test/accuracy_n50": 0.726},
    "delaunay_5": {"test/accuracy_n5": 0.807, "test/coverage_n5": 0.930},
    "delaunay_10": {"test/accuracy_n10": 0.226, "test/coverage_n10": 0.813},
}


def _model(
    config: str, low: int, high: int, eval_sizes: tuple[int, ...], metric: str
) -> dict[str, Any]:
    """Config and overrides of a model trained on `low` to `high` points.

    The best checkpoint is selected by `metric` at the last of `eval_sizes`.
    """
    return {
        "config": f"configs/{config}.py",
        "overrides": {
            "data.sizes": (low, high),
            "evaluation.sizes": eval_sizes,
            "train.best": f"dev/{metric}_n{eval_sizes[-1]}",
        },
    }


MODELS = {
    "tsp_5": _model("ptrnet_tsp5", 5, 5, (5,), "gap"),
    "tsp_10": _model("ptrnet_tsp10", 10, 10, (10,), "gap"),
    "tsp_5-20": _model("ptrnet_tsp20", 5, 20, (5, 10, 20, 25), "gap"),
    "tsp_50": _model("ptrnet_tsp20", 50, 50, (50,), "gap"),
    "hull_5-50": _model("ptrnet_hull", 5, 50, (5, 10, 50), "accuracy"),
    "hull_50": _model("ptrnet_hull", 50, 50, (50,), "accuracy"),
    "delaunay_5": _model("ptrnet_delaunay", 5, 5, (5,), "accuracy"),
    "delaunay_10": _model("ptrnet_delaunay", 10, 10, (10,), "accuracy"),
}
METRICS = tuple(dict.fromkeys(metric for metrics in PAPER.values() for metric in metrics))


def runs():
    for name, model in MODELS.items():
        yield Run(labels={"model": name}, paper=PAPER[name], **model)


figure = partial(metric_bars, metrics=("test/length_n10", "test/accuracy_n5"))
