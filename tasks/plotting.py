"""Pictures that several tasks draw."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int
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
            if grid.size > 1:
                axes.set_title(f"layer {n + 1}, head {head + 1}", fontsize=8)
            axes.set_xticks(range(len(columns)), columns, rotation=90, fontsize=7)
            axes.set_yticks(range(len(rows)), rows, fontsize=7)
            axes.tick_params(length=0)
    return figure


def episodes(
    shown: Mapping[str, tuple[Float[np.ndarray, "T C"], ...]], names: Sequence[str]
) -> Figure:
    """Sequences over time, each as a few grids of channels by steps.

    Args:
        shown: by title, the grids of a sequence: inputs, targets, outputs.
        names: of the grids.
    """
    longest = max(len(grids[0]) for grids in shown.values())
    channels = sum(grid.shape[1] for grid in next(iter(shown.values())))
    size = (min(3 + 0.08 * longest, 20), 0.6 + len(shown) * (0.7 + 0.07 * channels))
    figure = Figure(figsize=size, layout="constrained")
    parts = figure.subfigures(len(shown), 1, squeeze=False)[:, 0]
    for part, (title, grids) in zip(parts, shown.items(), strict=True):
        part.suptitle(title, fontsize=9)
        ratios = [grid.shape[1] for grid in grids]
        for axes, grid, name in zip(
            part.subplots(len(grids), 1, sharex=True, height_ratios=ratios),
            grids,
            names,
            strict=True,
        ):
            axes.imshow(grid.T, cmap="magma", aspect="auto", interpolation="nearest")
            axes.set_ylabel(name, rotation=0, ha="right", va="center", fontsize=8)
            axes.set_yticks([])
    return figure


def heads(
    vectors: Mapping[str, Float[np.ndarray, "T M"]],
    weights: Mapping[str, Float[np.ndarray, "T N"]],
    title: str,
) -> Figure:
    """What heads did over time: above the vectors they moved, below the rows they looked at.

    Args:
        vectors: of each head, what it read or added at each step.
        weights: of each head, over the rows of the memory at each step.
        title: above the whole.
    """
    longest = len(next(iter(weights.values())))
    size = (1 + len(weights) * min(2.5 + 0.05 * longest, 8), 6.5)
    figure = Figure(figsize=size, layout="constrained")
    figure.suptitle(title, fontsize=9)
    grid = figure.subplots(2, len(weights), squeeze=False, sharex=True, height_ratios=(1, 3))
    for axes, (name, moved) in zip(grid[0], vectors.items(), strict=True):
        axes.imshow(
            moved.T, cmap="coolwarm", vmin=-1, vmax=1, aspect="auto", interpolation="nearest"
        )
        axes.set_title(name, fontsize=8)
        axes.set_yticks([])
    for axes, (name, looked) in zip(grid[1], weights.items(), strict=True):
        axes.imshow(looked.T, cmap="gray", vmin=0, vmax=1, aspect="auto", interpolation="nearest")
        axes.set_title(name, fontsize=8)
        axes.set(xlabel="step", ylabel="row of the memory")
    return figure


class Plane(NamedTuple):
    """Points, and closed lines through some of them."""

    title: str
    points: Float[np.ndarray, "N 2"]
    paths: Sequence[Int[np.ndarray, " _"]]


def planes(rows: Sequence[Sequence[Plane]]) -> Figure:
    """Points of the unit square with lines through them; the first is marked.

    Args:
        rows: panels, all rows with as many.
    """
    figure = Figure(figsize=(2.1 * len(rows[0]), 2.3 * len(rows)), layout="constrained")
    grid = figure.subplots(len(rows), len(rows[0]), squeeze=False, sharex=True, sharey=True)
    for axes, plane in zip(grid.flat, (plane for row in rows for plane in row), strict=True):
        for path in plane.paths:
            closed = plane.points[np.append(path, path[:1])]
            axes.plot(*closed.T, color="tab:blue", linewidth=1)
        axes.plot(*plane.points.T, "o", color="k", markersize=3)
        axes.plot(*plane.points[0], "o", color="tab:orange", markersize=5)
        axes.set_title(plane.title, fontsize=8)
        axes.set(xticks=[], yticks=[], xlim=(-0.03, 1.03), ylim=(-0.03, 1.03), aspect="equal")
    return figure


def curve(
    x: Sequence[int], y: Sequence[float], x_name: str, y_name: str, trained: tuple[int, int]
) -> Figure:
    """A measure by size, the sizes of training shaded."""
    figure = Figure(figsize=(5, 3.2), layout="constrained")
    axes = figure.subplots()
    axes.axvspan(*trained, color="tab:blue", alpha=0.1, label="trained on")
    axes.plot(x, y, marker=".")
    axes.set(xlabel=x_name, ylabel=y_name)
    axes.locator_params(axis="x", integer=True)
    axes.grid(alpha=0.3)
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False)
    return figure


def curves(
    lines: Mapping[str, Float[np.ndarray, " T"]], x: str, y: str, best: float | None
) -> Figure:
    """A line for each name, the first of them ours; and a dashed one at the best there could be."""
    figure = Figure(figsize=(6.4, 4), layout="constrained")
    axes = figure.subplots()
    for n, (name, values) in enumerate(lines.items()):
        width = 1 if n else 2.5
        axes.plot(np.arange(len(values)) + 1, values, label=name, linewidth=width, marker=".")
    if best is not None:
        axes.axhline(best, color="k", linestyle="--", linewidth=1, label="known beforehand")
    axes.set(xlabel=x, ylabel=y)
    axes.locator_params(axis="x", integer=True)
    axes.grid(alpha=0.3)
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False, fontsize=8)
    return figure
