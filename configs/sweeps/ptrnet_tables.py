"""Tables 1 and 2 and section 4.3 of Vinyals et al. 2015: hulls, tours and triangulations by size.

One run per trained model of the paper:

- table 1: LSTM on 5, 10 and 50 points, LSTM with attention on 50, and pointer networks on 50 and
  on 5 to 50 points;
- section 4.3: pointer networks on Delaunay triangulations of 5, 10 and 50 points;
- table 2: pointer networks on tours of 5, 10 and 5 to 20 cities with optimal labels, and of 50
  cities with labels by the algorithms A1 and A3, of tasks/pointing/heuristics.py.

    python sweep.py --sweep=configs/sweeps/ptrnet_tables.py --parallel=2

The sizes beyond the training range are evaluated afterwards:

    python eval.py --workdir=runs/ptrnet_tables/hull_5-50 --config.evaluation.sizes='(100,200,500)'
    python eval.py --workdir=runs/ptrnet_tables/tsp_5-20 --config.evaluation.sizes='(30,40,50)'

Sized for a laptop: 14 runs of 15 minutes to 8 hours on two CPU cores, and half a day for the labels
by A3.
"""

from functools import partial
from typing import Any

from configs.papers import printed
from training.plots import metric_bars
from training.sweeps import Run

HULL, TSP, DELAUNAY = (f"vinyals2015/{place}" for place in ("table 1", "table 2", "section 4.3"))
ROWS = {
    "tsp_5": (f"{TSP}/n = 5",),
    "tsp_10": (f"{TSP}/n = 10",),
    "tsp_5-20": tuple(f"{TSP}/trained on 5-20, n = {n}" for n in (5, 10, 20, 25, 30, 40, 50)),
    "tsp_50_a1": (f"{TSP}/n = 50, labels by A1",),
    "tsp_50_a3": (f"{TSP}/n = 50, labels by A3",),
    "lstm_5": (f"{HULL}/LSTM, n = 5",),
    "lstm_10": (f"{HULL}/LSTM, n = 10",),
    "lstm_50": (f"{HULL}/LSTM, n = 50",),
    "attention_50": (f"{HULL}/LSTM with attention, n = 50",),
    "hull_5-50": tuple(
        f"{HULL}/Ptr-Net trained on 5-50, n = {n}" for n in (5, 10, 50, 100, 200, 500)
    ),
    "hull_50": (f"{HULL}/Ptr-Net trained on 50, n = 50",),
    "delaunay_5": (f"{DELAUNAY}/Delaunay, n = 5",),
    "delaunay_10": (f"{DELAUNAY}/Delaunay, n = 10",),
    "delaunay_50": (f"{DELAUNAY}/Delaunay, n = 50",),
}


def _model(
    config: str, low: int, high: int, eval_sizes: tuple[int, ...], metric: str, **overrides: Any
) -> dict[str, Any]:
    """Config and overrides of a model trained on `low` to `high` points.

    The best checkpoint is selected by `metric` at the last of `eval_sizes`.
    """
    sizes = {
        "data.sizes": (low, high),
        "evaluation.sizes": eval_sizes,
        "train.best": f"dev/{metric}_n{eval_sizes[-1]}",
    }
    return {"config": f"configs/{config}.py", "overrides": sizes | overrides}


def _labels(solver: str) -> dict[str, str]:
    return {"data.labels.solver": solver}


LSTM = {"model.attends": False}
HOST_LABELS = {"solver": "delaunay", "instances": 1_000_000, "dir": ""}
MODELS = {
    "tsp_5": _model("ptrnet_tsp5", 5, 5, (5,), "gap"),
    "tsp_10": _model("ptrnet_tsp10", 10, 10, (10,), "gap"),
    "tsp_5-20": _model("ptrnet_tsp20", 5, 20, (5, 10, 20, 25), "gap"),
    "tsp_50_a1": _model("ptrnet_tsp20", 50, 50, (50,), "gap", **_labels("greedy_edges")),
    "tsp_50_a3": _model("ptrnet_tsp20", 50, 50, (50,), "gap", **_labels("christofides")),
    "lstm_5": _model("seq2seq_hull", 5, 5, (5,), "accuracy", **LSTM),
    "lstm_10": _model("seq2seq_hull", 10, 10, (10,), "accuracy", **LSTM),
    "lstm_50": _model("seq2seq_hull", 50, 50, (50,), "accuracy", **LSTM),
    "attention_50": _model("seq2seq_hull", 50, 50, (50,), "accuracy"),
    "hull_5-50": _model("ptrnet_hull", 5, 50, (5, 10, 50), "accuracy"),
    "hull_50": _model("ptrnet_hull", 50, 50, (50,), "accuracy"),
    "delaunay_5": _model("ptrnet_delaunay", 5, 5, (5,), "accuracy"),
    "delaunay_10": _model("ptrnet_delaunay", 10, 10, (10,), "accuracy"),
    "delaunay_50": _model(
        "ptrnet_delaunay", 50, 50, (50,), "coverage", **{"data.labels": HOST_LABELS}
    ),
}
METRICS = tuple(dict.fromkeys(metric for rows in ROWS.values() for metric in printed(rows)))


def runs():
    for name, model in MODELS.items():
        yield Run(labels={"model": name}, rows=ROWS[name], paper=printed(ROWS[name]), **model)


figure = partial(metric_bars, metrics=("test/length_n10", "test/accuracy_n5"))
