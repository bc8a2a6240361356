"""Pictures that several tasks draw."""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float
from matplotlib.figure import Figure


def attention_heads(
    layers: Sequence[Float[np.ndarray, "H T S"]],
    columns: Sequence[str],
    rows: Sequence[str],
    title: str,
) -> Figure:
    """Heat maps of attention weights: a row of maps per layer, a map per head.

    Args:
        layers: weights of each layer, all with the same number of heads.
        columns: S labels of what is attended to.
        rows: T labels of who attends.
        title: above the whole.
    """
    heads = len(layers[0])
    width = heads * max(2.2, 0.17 * len(columns) + 0.6)
    height = len(layers) * max(2.2, 0.17 * len(rows) + 0.6) + 0.5
    figure = Figure(figsize=(width, height), layout="constrained")
    figure.suptitle(title, fontsize=9, wrap=True)
    grid = figure.subplots(len(layers), heads, squeeze=False, sharex=True, sharey=True)
    for n, weights in enumerate(layers):
        for head, axes in enumerate(grid[n]):
            axes.imshow(weights[head], cmap="magma", vmin=0, vmax=1, aspect="auto")
            axes.set_title(f"layer {n + 1}, head {head + 1}", fontsize=8)
            axes.set_xticks(range(len(columns)), columns, rotation=90, fontsize=7)
            axes.set_yticks(range(len(rows)), rows, fontsize=7)
            axes.tick_params(length=0)
    return figure
