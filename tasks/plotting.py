"""Figures that several tasks use."""

import functools
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float, Int
from matplotlib import font_manager
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from training.learning_curve import set_style


def literal_text(*groups: Iterable[str]) -> tuple[list[list[str]], dict[str, Any]]:
    """Make text of any language printable in a figure.

    Returns:
        The groups of texts, in which characters that no installed font has are replaced by their
        code points, as in 'U+4E2D'; and the keyword arguments of matplotlib for these texts: fonts
        for all other characters, and no interpretation of `$`.
    """
    texts = [list(group) for group in groups]
    used = {character for group in texts for text in group for character in text}
    families, missing = _fallback_fonts(frozenset(used))
    codes = str.maketrans({character: f"U+{ord(character):04X} " for character in missing})
    printable = [[text.translate(codes).rstrip(" ") for text in group] for group in texts]
    return printable, {"fontfamily": ["sans-serif", *families], "parse_math": False}


@functools.lru_cache
def _fallback_fonts(characters: frozenset[str]) -> tuple[list[str], frozenset[str]]:
    """Return fallback font families for the characters, and the characters that no font has."""
    manager, families = font_manager.fontManager, []
    default = font_manager.get_font(font_manager.findfont(font_manager.FontProperties()))
    missing = {c for c in characters - {"\n"} if not default.get_char_index(ord(c))}
    for entry in manager.ttflist:
        if not missing:
            break
        # The glyphs of the Last Resort font are placeholders.
        if entry.style != "normal" or entry.name.startswith(("Last Resort", ".LastResort")):
            continue
        try:
            font = font_manager.get_font(font_manager.FontPath(entry.fname, entry.index))
            found = {c for c in missing if font.get_char_index(ord(c))}
        except (OSError, RuntimeError):  # removed since matplotlib listed it, or not supported
            continue
        if found:
            families.append(entry.name)
            missing -= found
    return families, frozenset(missing)


def attention_heads(
    layers: Sequence[Float[np.ndarray, "H T S"]],
    columns: Sequence[str],
    rows: Sequence[str],
    title: str,
) -> Figure:
    """Plot attention weights as heat maps, one row of maps per layer and one map per head.

    Args:
        layers: weights of each layer, all with the same number of heads.
        columns: labels of the S keys.
        rows: labels of the T queries.
        title: title of the figure.
    """
    (columns, rows, [title]), style = literal_text(columns, rows, [title])
    heads = len(layers[0])
    # Labels of more than 8 characters take additional space, as otherwise the layout fails.
    label_width, label_height = (
        0.06 * max(0, *(len(label) - 8 for label in labels)) for labels in (rows, columns)
    )
    width = heads * max(2.2, 0.17 * len(columns) + 0.6) + label_width
    height = len(layers) * max(2.2, 0.17 * len(rows) + 0.6) + 0.5 + label_height
    figure = Figure(figsize=(width, height), layout="constrained")
    figure.suptitle(title, fontsize=9, wrap=True, **style)
    grid = figure.subplots(len(layers), heads, squeeze=False, sharex=True, sharey=True)
    for n, weights in enumerate(layers):
        for head, axes in enumerate(grid[n]):
            axes.imshow(weights[head], cmap="magma", vmin=0, vmax=1, aspect="auto")
            if grid.size > 1:
                axes.set_title(f"layer {n + 1}, head {head + 1}", fontsize=8)
            axes.set_xticks(range(len(columns)), columns, rotation=90, fontsize=7, **style)
            axes.set_yticks(range(len(rows)), rows, fontsize=7, **style)
            axes.tick_params(length=0)
    return figure


def sequences(
    examples: Mapping[str, tuple[Float[np.ndarray, "_ _"], ...]], names: Sequence[str]
) -> Figure:
    """Plot sequences over time, each as a stack of heat maps (channels by steps).

    Args:
        examples: arrays [T, C] of each sequence, such as inputs and outputs, by its title.
        names: labels of the arrays.
    """
    longest = max(len(arrays[0]) for arrays in examples.values())
    channels = sum(array.shape[1] for array in next(iter(examples.values())))
    size = (min(3 + 0.08 * longest, 20), 0.6 + len(examples) * (0.7 + 0.07 * channels))
    figure = Figure(figsize=size, layout="constrained")
    subfigures = figure.subfigures(len(examples), 1, squeeze=False)[:, 0]
    for subfigure, (title, arrays) in zip(subfigures, examples.items(), strict=True):
        subfigure.suptitle(title, fontsize=9)
        ratios = [array.shape[1] for array in arrays]
        column = subfigure.subplots(len(arrays), 1, sharex=True, height_ratios=ratios)
        for axes, array, name in zip(column, arrays, names, strict=True):
            axes.imshow(array.T, cmap="magma", aspect="auto", interpolation="nearest")
            axes.set_ylabel(name, rotation=0, ha="right", va="center", fontsize=8)
            axes.set_yticks([])
    return figure


def memory_access(
    sequences: Mapping[str, Float[np.ndarray, "T _"]],
    vectors: Mapping[str, Float[np.ndarray, "T M"]],
    weights: Mapping[str, Float[np.ndarray, "T N"]],
    title: str,
) -> Figure:
    """Plot the memory access of heads over time: sequences, vectors and address weights.

    Args:
        sequences: outputs above the read heads and inputs above the others, by head.
        vectors: read or add vectors at each step, by head.
        weights: weights over the memory rows at each step, by head.
        title: title of the figure.
    """
    longest = len(next(iter(weights.values())))
    size = (1 + len(weights) * min(2.5 + 0.05 * longest, 8), 8)
    figure = Figure(figsize=size, layout="constrained")
    figure.suptitle(title, fontsize=9)
    grid = figure.subplots(3, len(weights), squeeze=False, sharex=True, height_ratios=(1, 1, 3))
    style = {"aspect": "auto", "interpolation": "nearest"}
    for axes, (name, sequence) in zip(grid[0], sequences.items(), strict=True):
        axes.imshow(sequence.T, cmap="magma", **style)
        axes.set_title("outputs" if name.startswith("read") else "inputs", fontsize=8)
        axes.set_yticks([])
    for axes, (name, vector) in zip(grid[1], vectors.items(), strict=True):
        axes.imshow(vector.T, cmap="coolwarm", vmin=-1, vmax=1, **style)
        axes.set_title(name, fontsize=8)
        axes.set_yticks([])
    for axes, (name, weight) in zip(grid[2], weights.items(), strict=True):
        axes.imshow(weight.T, cmap="gray", vmin=0, vmax=1, **style)
        axes.set_title(name, fontsize=8)
        axes.set(xlabel="step", ylabel="memory row")
    return figure


class PointPlot(NamedTuple):
    """Points in the unit square and closed paths through some of them."""

    title: str
    points: Float[np.ndarray, "N 2"]
    paths: Sequence[Int[np.ndarray, " _"]]  # point indices


def point_plots(rows: Sequence[Sequence[PointPlot]]) -> Figure:
    """Plot a grid of point sets with their paths; the first point of each set is highlighted.

    Args:
        rows: panels of each grid row; all rows have the same length.
    """
    figure = Figure(figsize=(2.1 * len(rows[0]), 2.3 * len(rows)), layout="constrained")
    grid = figure.subplots(len(rows), len(rows[0]), squeeze=False, sharex=True, sharey=True)
    for axes, panel in zip(grid.flat, (panel for row in rows for panel in row), strict=True):
        for path in panel.paths:
            closed = panel.points[np.append(path, path[:1])]
            axes.plot(*closed.T, color="tab:blue", linewidth=1)
        axes.plot(*panel.points.T, "o", color="k", markersize=3)
        axes.plot(*panel.points[0], "o", color="tab:orange", markersize=5)
        axes.set_title(panel.title, fontsize=8)
        axes.set(xticks=[], yticks=[], xlim=(-0.03, 1.03), ylim=(-0.03, 1.03), aspect="equal")
    return figure


def metric_by_size(
    sizes: Sequence[int],
    values: Sequence[float],
    xlabel: str,
    ylabel: str,
    training_range: tuple[int, int],
) -> Figure:
    """Plot a metric over problem sizes, with the range of training sizes shaded."""
    figure = Figure(figsize=(5, 3.2), layout="constrained")
    axes = figure.subplots()
    axes.axvspan(*training_range, color="tab:blue", alpha=0.1, label="training sizes")
    axes.plot(sizes, values, marker=".")
    _style_axes(axes, xlabel, ylabel)
    axes.legend(frameon=False)
    return figure


def line_plot(
    lines: Mapping[str, Float[np.ndarray, " T"]],
    xlabel: str,
    ylabel: str,
    optimum: float | None,
) -> Figure:
    """Plot one line per name over 1, 2, ..., the first of them thick; the optimum is dashed."""
    figure = Figure(figsize=(6.4, 4), layout="constrained")
    axes = figure.subplots()
    for n, (name, values) in enumerate(lines.items()):
        width = 1 if n else 2.5
        axes.plot(np.arange(len(values)) + 1, values, label=name, linewidth=width, marker=".")
    if optimum is not None:
        axes.axhline(optimum, color="k", linestyle="--", linewidth=1, label="optimum")
    _style_axes(axes, xlabel, ylabel)
    figure.legend(loc="outside right upper", frameon=False, fontsize=8)  # not over the optimum
    return figure


def _style_axes(axes: Axes, xlabel: str, ylabel: str) -> None:
    """Label the axes, restrict the x ticks to integers, and draw a light grid without a frame."""
    axes.set(xlabel=xlabel, ylabel=ylabel)
    axes.locator_params(axis="x", integer=True)
    set_style(axes)
