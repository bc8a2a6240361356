"""Graves et al. 2014, "Neural Turing Machines".

The values are bits per sequence at the end of the learning curves, read from the plots: the paper
prints no numbers. The values of dynamic n-grams are bits above the optimal estimator, whose cost in
the plot is 131.5: the mean cost of 1,000 test sequences has a standard error of 1.1 bits, but the
difference hardly depends on the sequences. `python -m results.ntm_figures` draws all figures from
the finished runs of the sweep `ntm_tasks`.
"""

MODELS = FEED_FORWARD, LSTM_CONTROLLER, LSTM = "NTM, feed-forward", "NTM, LSTM", "LSTM"
MEMORY = FEED_FORWARD, LSTM_CONTROLLER
# Task of configs/sweeps/ntm_tasks.py, title, and the value of each model. Repeat copy was trained
# on half a million sequences, the others on a million.
CURVES = {
    3: ("copy", "copy", (0, 0, 2)),
    7: ("repeat_copy", "repeat copy", (0, 0, 0)),
    10: ("recall", "associative recall", (0, 0, 1.5)),
    13: ("ngrams", "dynamic n-grams", (2.0, 2.0, 5.5)),
    18: ("sort", "priority sort", (15, 15, 50)),
}
METRICS = {"ngrams": "test/excess_bits"}  # test/bits_per_sequence for the other tasks
# Task, title and models.
OTHERS = {
    4: ("copy", "generalization of copy", (LSTM_CONTROLLER,)),
    5: ("copy", "generalization of copy", (LSTM,)),
    6: ("copy", "memory use of copy", MEMORY),
    8: ("repeat_copy", "generalization of repeat copy", (LSTM_CONTROLLER, LSTM)),
    9: ("repeat_copy", "memory use of repeat copy", MEMORY),
    11: ("recall", "generalization of associative recall", MODELS),
    12: ("recall", "memory use of associative recall", MEMORY),
    14: ("ngrams", "predictions of dynamic n-grams", (LSTM_CONTROLLER, LSTM)),
    15: ("ngrams", "memory use of dynamic n-grams", MEMORY),
    16: ("sort", "example of priority sort", MODELS),
    17: ("sort", "memory use of priority sort", MEMORY),
}


def rows_of(task: str, model: str) -> tuple[str, ...]:
    """Names of the rows that a run of the sweep reproduces."""
    curves = [
        f"figure {n}/{title}, {model}" for n, (name, title, _) in CURVES.items() if name == task
    ]
    others = [
        f"figure {n}/{title}, {model}"
        for n, (name, title, models) in OTHERS.items()
        if name == task and model in models
    ]
    return tuple(f"graves2014/{row}" for row in (*curves, *others))


def _rows() -> dict[str, dict[str, dict[str, float]]]:
    rows: dict[str, dict[str, dict[str, float]]] = {}
    for n, (name, title, values) in CURVES.items():
        metric = METRICS.get(name, "test/bits_per_sequence")
        rows[f"figure {n}"] = {
            f"{title}, {model}": {metric: value}
            for model, value in zip(MODELS, values, strict=True)
        }
    for n, (_, title, models) in OTHERS.items():
        rows[f"figure {n}"] = {f"{title}, {model}": {} for model in models}
    return dict(sorted(rows.items(), key=lambda item: int(item[0].split()[1])))


ROWS = _rows()
