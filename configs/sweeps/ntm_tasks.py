"""Three models on five tasks: the learning curves of Graves et al. 2014 (fig. 3, 7, 10, 13, 18).

Model sizes follow tables 1 to 3 of the paper: a memory of 128 x 20, the number of heads of the
table for the feed-forward and the LSTM controller, and three layers for the LSTM without memory.
The paper gives no numbers. The following values are bits per sequence read from its plots after a
million sequences (repeat copy: half a million), for the feed-forward NTM, the LSTM NTM and the
LSTM:

    copy 0, 0 and more than 2; repeat copy 0, 0 and 0; recall 0, 0 and 1 to 2; n-grams 133 to 134,
    133 to 134 and 137; sort 10 to 20, 10 to 20 and about 50.

    python sweep.py --sweep=configs/sweeps/ntm_tasks.py --parallel=2

Sized for a laptop: 15 runs, from two minutes to an hour each on one CPU core.
"""

from functools import partial
from typing import Any

from training.plots import learning_curves
from training.sweeps import Run

NTM_FEED_FORWARD, NTM_LSTM, LSTM = "NTM, feed-forward", "NTM, LSTM", "LSTM"
MODELS: dict[str, dict[str, dict[str, Any]]] = {
    "copy": {
        NTM_FEED_FORWARD: {"hidden": 100, "heads": 1},
        NTM_LSTM: {"hidden": 100, "heads": 1},
        LSTM: {"hidden": 256},
    },
    "repeat_copy": {
        NTM_FEED_FORWARD: {"hidden": 100, "heads": 1},
        NTM_LSTM: {"hidden": 100, "heads": 1},
        LSTM: {"hidden": 512},
    },
    "recall": {
        NTM_FEED_FORWARD: {"hidden": 256, "heads": 4},
        NTM_LSTM: {"hidden": 100, "heads": 1},
        LSTM: {"hidden": 256},
    },
    "ngrams": {
        NTM_FEED_FORWARD: {"hidden": 100, "heads": 1},
        NTM_LSTM: {"hidden": 100, "heads": 1},
        LSTM: {"hidden": 128},
    },
    "sort": {
        NTM_FEED_FORWARD: {"hidden": 512, "heads": 8},
        NTM_LSTM: {"hidden": 100, "heads": 5, "layers": 2},
        LSTM: {"hidden": 128},
    },
}
OVERRIDES: dict[str, dict[str, Any]] = {
    NTM_FEED_FORWARD: {"model.controller": "feed_forward", "model.layers": 1},
    NTM_LSTM: {"model.controller": "lstm", "model.layers": 1},
    LSTM: {
        "model.controller": "lstm",
        "model.layers": 3,
        "model.heads": 0,
        "optimizer.learning_rate": 1e-3,
    },
}
# Bits per sequence at the end of the paper's curves, read from the plots.
PAPER: dict[str, dict[str, float]] = {
    "copy": {NTM_FEED_FORWARD: 0, NTM_LSTM: 0, LSTM: 2},
    "repeat_copy": {NTM_FEED_FORWARD: 0, NTM_LSTM: 0, LSTM: 0},
    "recall": {NTM_FEED_FORWARD: 0, NTM_LSTM: 0, LSTM: 1.5},
    "ngrams": {NTM_FEED_FORWARD: 133.5, NTM_LSTM: 133.5, LSTM: 137},
    "sort": {NTM_FEED_FORWARD: 15, NTM_LSTM: 15, LSTM: 50},
}
# At the learning rate of configs/ntm_repeat_copy.py, 3e-3, this model is unstable.
LEARNING_RATES = {("repeat_copy", NTM_FEED_FORWARD): 1e-3}
STEPS = {("repeat_copy", LSTM): 2_000}  # 100,000 sequences take an hour and a half
METRICS = ("test/bits_per_sequence", "test/bit_errors")


def runs():
    for task, models in MODELS.items():
        for model, sizes in models.items():
            overrides = OVERRIDES[model] | {f"model.{name}": x for name, x in sizes.items()}
            if (task, model) in LEARNING_RATES:
                overrides["optimizer.learning_rate"] = LEARNING_RATES[task, model]
            if (task, model) in STEPS:
                overrides["train.steps"] = STEPS[task, model]
            yield Run(
                config=f"configs/ntm_{task}.py",
                labels={"task": task, "model": model},
                overrides=overrides,
                paper={"test/bits_per_sequence": PAPER[task][model]},
            )


figure = partial(
    learning_curves, metric="bits_per_sequence", panels="task", lines="model", unit="sequences"
)
