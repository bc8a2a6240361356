"""Three models on five tasks: the learning curves of Graves et al. 2014 (fig. 3, 7, 10, 13, 18).

Model sizes follow tables 1 to 3 of the paper: a memory of 128 x 20, the number of heads of the
table for the feed-forward and the LSTM controller, and three layers for the LSTM without memory.
The paper's values are read from its plots: see configs/papers/graves2014.py.

    python sweep.py --sweep=configs/sweeps/ntm_tasks.py --parallel=2
    python -m results.ntm_figures runs/ntm_tasks

Sized for a laptop: 15 runs, from two minutes to an hour each on one CPU core.
"""

from functools import partial
from typing import Any

from configs.papers import printed
from configs.papers.graves2014 import FEED_FORWARD, LSTM, LSTM_CONTROLLER, rows_of
from configs.sweeps import ntm_copy_seeds
from training.plots import learning_curves
from training.sweeps import Run

MODELS: dict[str, dict[str, dict[str, Any]]] = {
    "copy": {
        FEED_FORWARD: {"hidden": 100, "heads": 1},
        LSTM_CONTROLLER: {"hidden": 100, "heads": 1},
        LSTM: {"hidden": 256},
    },
    "repeat_copy": {
        FEED_FORWARD: {"hidden": 100, "heads": 1},
        LSTM_CONTROLLER: {"hidden": 100, "heads": 1},
        LSTM: {"hidden": 512},
    },
    "recall": {
        FEED_FORWARD: {"hidden": 256, "heads": 4},
        LSTM_CONTROLLER: {"hidden": 100, "heads": 1},
        LSTM: {"hidden": 256},
    },
    "ngrams": {
        FEED_FORWARD: {"hidden": 100, "heads": 1},
        LSTM_CONTROLLER: {"hidden": 100, "heads": 1},
        LSTM: {"hidden": 128},
    },
    "sort": {
        FEED_FORWARD: {"hidden": 512, "heads": 8},
        LSTM_CONTROLLER: {"hidden": 100, "heads": 5, "layers": 2},
        LSTM: {"hidden": 128},
    },
}
OVERRIDES: dict[str, dict[str, Any]] = {
    FEED_FORWARD: {"model.controller": "feed_forward", "model.layers": 1},
    LSTM_CONTROLLER: {"model.controller": "lstm", "model.layers": 1},
    LSTM: {
        "model.controller": "lstm",
        "model.layers": 3,
        "model.heads": 0,
        "optimizer.learning_rate": 1e-3,
    },
}
TASK_OVERRIDES: dict[tuple[str, str], dict[str, Any]] = {
    ("copy", FEED_FORWARD): ntm_copy_seeds.OVERRIDES[FEED_FORWARD],
    # At the learning rate of configs/ntm_repeat_copy.py, 3e-3, this model is unstable.
    ("repeat_copy", FEED_FORWARD): {"optimizer.learning_rate": 1e-3},
    ("repeat_copy", LSTM): {"train.steps": 2_000},  # 100,000 sequences take an hour and a half
    # The rows of a learned initial memory differ, so that the row that is read can represent the
    # context. Without clipping in the backward pass, gradients overflow.
    ("ngrams", FEED_FORWARD): {"model.memory_init": "learned", "model.backward_clip": 10.0},
}
METRICS = ("test/bits_per_sequence", "test/excess_bits", "test/bit_errors")


def runs():
    for task, models in MODELS.items():
        for model, sizes in models.items():
            overrides = OVERRIDES[model] | {f"model.{name}": x for name, x in sizes.items()}
            overrides |= TASK_OVERRIDES.get((task, model), {})
            yield Run(
                config=f"configs/ntm_{task}.py",
                labels={"task": task, "model": model},
                overrides=overrides,
                rows=rows_of(task, model),
                paper=printed(rows_of(task, model)),
            )


figure = partial(
    learning_curves, metric="bits_per_sequence", panels="task", lines="model", unit="sequences"
)
