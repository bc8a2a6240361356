"""Table 3 of Vaswani et al. 2017: variations of the base model, on newstest2013 (the dev split).

    python sweep.py --sweep=configs/sweeps/transformer_table3.py --config.data.data_dir=DIR

The paper evaluates by beam search of width 4 without averaging checkpoints; perplexity is per word
piece. Printed results: configs/papers/vaswani2017.py. The big model trains for 300,000 updates.

Sized for the paper: 20 runs of 8 accelerators, see configs/transformer_base_wmt14.py.
"""

from functools import partial
from typing import Any

from configs.papers import printed
from training.plots import metric_bars
from training.sweeps import Run


def _heads(heads: int, width: int) -> dict[str, Any]:
    return {"model.heads": heads, "model.key_width": width, "model.value_width": width}


def _layers(layers: int) -> dict[str, Any]:
    return {"model.encoder_layers": layers, "model.decoder_layers": layers}


def _width(width: int, head: int) -> dict[str, Any]:
    rate = (width * 4000) ** -0.5
    return {"model.width": width, "optimizer.learning_rate": rate, **_heads(8, head)}


BIG: dict[str, Any] = {
    **_width(1024, 64),
    "model.heads": 16,
    "model.hidden": 4096,
    "model.dropout": 0.3,
    "train.steps": 300_000,
}
# Positions up to the length of the longest translation: 256 source tokens and 50 more.
LEARNED: dict[str, Any] = {"model.positions": "learned", "model.max_length": 306}
ROWS: dict[str, dict[str, Any]] = {
    "base": {},
    "A, h 1": _heads(1, 512),
    "A, h 4": _heads(4, 128),
    "A, h 16": _heads(16, 32),
    "A, h 32": _heads(32, 16),
    "B, d_k 16": {"model.key_width": 16},
    "B, d_k 32": {"model.key_width": 32},
    "C, N 2": _layers(2),
    "C, N 4": _layers(4),
    "C, N 8": _layers(8),
    "C, d_model 256": _width(256, 32),
    "C, d_model 1024": _width(1024, 128),
    "C, d_ff 1024": {"model.hidden": 1024},
    "C, d_ff 4096": {"model.hidden": 4096},
    "D, dropout 0.0": {"model.dropout": 0.0},
    "D, dropout 0.2": {"model.dropout": 0.2},
    "D, label smoothing 0.0": {"label_smoothing": 0.0},
    "D, label smoothing 0.2": {"label_smoothing": 0.2},
    "E, learned positions": LEARNED,
    "big": BIG,
}
METRICS = ("dev/perplexity", "dev/bleu")


def runs():
    for row, changes in ROWS.items():
        rows = (f"vaswani2017/table 3/{row}",)
        yield Run(
            config="configs/transformer_base_wmt14.py",
            labels={"row": row},
            overrides={"decode.dev_width": 4, "train.average": 1} | changes,
            rows=rows,
            paper=printed(rows),
        )


figure = partial(metric_bars, metrics=METRICS)
