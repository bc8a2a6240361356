"""Tables 1 and 2 and section 4.3 of Vinyals et al. 2015: tours, hulls and triangulations by size.

One row of a table is one model: tours of 5, of 10, of 5 to 20 and of 50 cities (there with labels
of a local search, 6.09), hulls of 5 to 50 and of 50 points, triangulations of 5 and 10.

    python sweep.py --sweep=configs/sweeps/ptrnet_tables.py --parallel=2

Printed: tours 2.12, 2.88, 3.88 at 20 of the model of 5 to 20, 6.09 at 50; hulls right 92.0, 87.0
and 69.6% at 5, 10 and 50 of that of 5 to 50, 72.6% at 50 of that of 50; triangulations right 80.7%
of 5 and 22.6% of 10.

Sized for a laptop but for patience: a quarter of an hour to eight hours a run on two CPU cores,
eight runs; the labels of tours of 50 cities take half a day besides.
"""

from functools import partial
from typing import Any

from training.plots import bars
from training.sweeps import Run

PRINTED: dict[str, dict[str, float]] = {
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


def of(config: str, low: int, high: int, tested: tuple[int, ...], best: str) -> dict[str, Any]:
    """A run of one range of sizes."""
    return {
        "config": f"configs/{config}.py",
        "overrides": {
            "data.sizes": (low, high),
            "evaluation.sizes": tested,
            "train.best": f"dev/{best}_n{tested[-1]}",
        },
    }


ROWS = {
    "tsp_5": of("ptrnet_tsp5", 5, 5, (5,), "gap"),
    "tsp_10": of("ptrnet_tsp10", 10, 10, (10,), "gap"),
    "tsp_5-20": of("ptrnet_tsp20", 5, 20, (5, 10, 20, 25), "gap"),
    "tsp_50": of("ptrnet_tsp20", 50, 50, (50,), "gap"),
    "hull_5-50": of("ptrnet_hull", 5, 50, (5, 10, 50), "accuracy"),
    "hull_50": of("ptrnet_hull", 50, 50, (50,), "accuracy"),
    "delaunay_5": of("ptrnet_delaunay", 5, 5, (5,), "accuracy"),
    "delaunay_10": of("ptrnet_delaunay", 10, 10, (10,), "accuracy"),
}
METRICS = tuple(dict.fromkeys(name for printed in PRINTED.values() for name in printed))


def runs():
    for row, run in ROWS.items():
        yield Run(labels={"row": row}, paper=PRINTED[row], **run)


figure = partial(bars, metrics=("test/length_n10", "test/accuracy_n5"))
