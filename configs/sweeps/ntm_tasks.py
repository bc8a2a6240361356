"""Five tasks, three models: the learning curves of Graves et al. 2014 (fig. 3, 7, 10, 13 and 18).

Sizes are those of its tables 1 to 3: the memory is 128 x 20, a controller of a feed-forward layer
or of LSTM has as many heads that read and that write as are printed, and the LSTM without a memory
has three layers. What the paper shows after a million sequences (repeat copy: half a million) was
read off its curves by eye, so it is near the truth and no more:

    copy 0, 0 and more than 2 bits; repeat copy 0, 0 and 0; recall 0, 0 and 1 to 2; n-grams 133 to
    134 twice and 137; sort 10 to 20 twice and about 50.

    python sweep.py --sweep=configs/sweeps/ntm_tasks.py --parallel=2

Sized for a laptop: 15 runs, from two minutes to an hour each on a CPU core.
"""

from functools import partial
from typing import Any

from training.plots import curves
from training.sweeps import Run

FEED_FORWARD, LSTM, ALONE = "NTM, feed-forward", "NTM, LSTM", "LSTM"
MODELS: dict[str, dict[str, dict[str, Any]]] = {
    "copy": {
        FEED_FORWARD: {"hidden": 100, "heads": 1},
        LSTM: {"hidden": 100, "heads": 1},
        ALONE: {"hidden": 256},
    },
    "repeat_copy": {
        FEED_FORWARD: {"hidden": 100, "heads": 1},
        LSTM: {"hidden": 100, "heads": 1},
        ALONE: {"hidden": 512},
    },
    "recall": {
        FEED_FORWARD: {"hidden": 256, "heads": 4},
        LSTM: {"hidden": 100, "heads": 1},
        ALONE: {"hidden": 256},
    },
    "ngrams": {
        FEED_FORWARD: {"hidden": 100, "heads": 1},
        LSTM: {"hidden": 100, "heads": 1},
        ALONE: {"hidden": 128},
    },
    "sort": {
        FEED_FORWARD: {"hidden": 512, "heads": 8},
        LSTM: {"hidden": 100, "heads": 5, "layers": 2},
        ALONE: {"hidden": 128},
    },
}
SHARED: dict[str, dict[str, Any]] = {
    FEED_FORWARD: {"model.controller": "feed_forward", "model.layers": 1},
    LSTM: {"model.controller": "lstm", "model.layers": 1},
    ALONE: {
        "model.controller": "lstm",
        "model.layers": 3,
        "model.heads": 0,
        "optimizer.peak": 1e-3,
    },
}
# Bits per sequence where the paper's curves end, by eye.
CURVES: dict[str, dict[str, float]] = {
    "copy": {FEED_FORWARD: 0, LSTM: 0, ALONE: 2},
    "repeat_copy": {FEED_FORWARD: 0, LSTM: 0, ALONE: 0},
    "recall": {FEED_FORWARD: 0, LSTM: 0, ALONE: 1.5},
    "ngrams": {FEED_FORWARD: 133.5, LSTM: 133.5, ALONE: 137},
    "sort": {FEED_FORWARD: 15, LSTM: 15, ALONE: 50},
}
# At configs/ntm_repeat_copy.py's rate this controller forgets again and again what it knew.
CALMER = {("repeat_copy", FEED_FORWARD): 1e-3}
FEWER = {("repeat_copy", ALONE): 2_000}  # an hour and a half for every 100,000 sequences
METRICS = ("test/bits_per_sequence", "test/wrong_bits")


def runs():
    for task, models in MODELS.items():
        for model, sizes in models.items():
            overrides = SHARED[model] | {f"model.{name}": x for name, x in sizes.items()}
            if (task, model) in CALMER:
                overrides["optimizer.peak"] = CALMER[task, model]
            if (task, model) in FEWER:
                overrides["train.steps"] = FEWER[task, model]
            yield Run(
                config=f"configs/ntm_{task}.py",
                labels={"task": task, "model": model},
                overrides=overrides,
                paper={"test/bits_per_sequence": CURVES[task][model]},
            )


figure = partial(curves, metric="bits_per_sequence", panels="task", lines="model", unit="sequences")
