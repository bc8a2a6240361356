"""Table 3 of Vaswani et al. 2017: variations of the base model, on newstest2013 (the dev split).

    python sweep.py --sweep=configs/sweeps/transformer_table3.py --config.data.data_dir=DIR

The paper evaluates by beam search of width 4 without averaging checkpoints; perplexity is per word
piece. Results of the paper: see ROWS. The big model trains for 300,000 updates.

Sized for the paper: 20 runs of 8 accelerators, see configs/transformer_base_wmt14.py.
"""

from functools import partial
from typing import Any

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
ROWS: dict[str, tuple[dict[str, Any], tuple[float, float]]] = {  # dev perplexity and BLEU
    "base": ({}, (4.92, 25.8)),
    "A h1": (_heads(1, 512), (5.29, 24.9)),
    "A h4": (_heads(4, 128), (5.00, 25.5)),
    "A h16": (_heads(16, 32), (4.91, 25.8)),
    "A h32": (_heads(32, 16), (5.01, 25.4)),
    "B dk16": ({"model.key_width": 16}, (5.16, 25.1)),
    "B dk32": ({"model.key_width": 32}, (5.01, 25.4)),
    "C N2": (_layers(2), (6.11, 23.7)),
    "C N4": (_layers(4), (5.19, 25.3)),
    "C N8": (_layers(8), (4.88, 25.5)),
    "C d256": (_width(256, 32), (5.75, 24.5)),
    "C d1024": (_width(1024, 128), (4.66, 26.0)),
    "C ff1024": ({"model.hidden": 1024}, (5.12, 25.4)),
    "C ff4096": ({"model.hidden": 4096}, (4.75, 26.2)),
    "D dropout 0": ({"model.dropout": 0.0}, (5.77, 24.6)),
    "D dropout 0.2": ({"model.dropout": 0.2}, (4.95, 25.5)),
    "D smoothing 0": ({"label_smoothing": 0.0}, (4.67, 25.3)),
    "D smoothing 0.2": ({"label_smoothing": 0.2}, (5.47, 25.7)),
    "E learned positions": (LEARNED, (4.92, 25.7)),
    "big": (BIG, (4.33, 26.4)),
}
METRICS = ("dev/perplexity", "dev/bleu")


def runs():
    for name, (changes, results) in ROWS.items():
        yield Run(
            config="configs/transformer_base_wmt14.py",
            labels={"row": name},
            overrides={"decode.dev_width": 4, "train.average": 1} | changes,
            paper=dict(zip(METRICS, results, strict=True)),
        )


figure = partial(metric_bars, metrics=METRICS)
