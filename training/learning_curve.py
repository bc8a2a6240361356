"""Learning curves of one run on one page, and the style that the figures of sweeps share."""

import math
from collections.abc import Iterable, Mapping, Sequence
from types import MappingProxyType
from typing import Literal

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import EngFormatter

LOG_SCALE_RATIO = 20  # largest ratio of values on a linear axis
COLUMNS = 3


def plot(
    lines: Sequence[Mapping[str, float]], paper: Mapping[str, float] = MappingProxyType({})
) -> Figure:
    """Plot the training loss and the dev metrics against the step, a panel each.

    Metrics that do not change are omitted. A panel also has the metric of the test split and its
    published value.

    Args:
        lines: lines of `metrics.jsonl`.
        paper: published results, by metric ("test/bleu").
    """
    dev = sorted({name for line in lines for name in line if name.startswith("dev/")})
    curves = {name: curve(lines, name) for name in ("loss", *dev)}
    panels = [name for name in curves if len(set(curves[name].values())) > 1]
    columns = min(max(len(panels), 1), COLUMNS)
    rows = -(-max(len(panels), 1) // columns)
    figure = Figure(figsize=(4.2 * columns, 0.6 + 2.6 * rows), layout="constrained")
    grid = figure.subplots(rows, columns, squeeze=False).ravel()
    for axes, name in zip(grid, panels, strict=False):
        test = name.replace("dev/", "test/")
        title, label = ("training loss", None) if name == "loss" else (name[4:], "dev")
        _plot(axes, curves[name], "-" if name == "loss" else ".-", label=label)
        if name != "loss":
            _plot(axes, curve(lines, test), "D", color="tab:red", label="test")
        if test in paper:
            axes.axhline(paper[test], color="tab:orange", ls="--", lw=1, label="paper (test)")
        values = np.concatenate([np.ravel(line.get_ydata()) for line in axes.lines])
        if name == "loss" or max(values) > 1.0:  # others are fractions
            set_scale(axes, map(float, values))
        axes.set_title(title, size=10)
        axes.xaxis.set_major_formatter(EngFormatter(sep=""))  # 100k
        set_style(axes)
        if label and len(axes.lines) > 1:
            axes.legend(frameon=False, fontsize=8)
    for axes in grid[len(panels) :]:
        axes.axis("off")
    figure.supxlabel("step", size=10)
    return figure


def curve(
    lines: Iterable[Mapping[str, float]], name: str, examples_per_step: float = 1
) -> dict[float, float]:
    """Return the finite values of a metric, by the number of steps or of training examples."""
    return {
        line["step"] * examples_per_step: line[name]
        for line in lines
        if name in line and math.isfinite(line[name])
    }


def set_scale(axes: Axes, values: Iterable[float]) -> None:
    """Make the vertical axis logarithmic if positive values span a factor of `LOG_SCALE_RATIO`.

    A linear axis has no offset, so that its labels are the values.
    """
    values = list(values)
    if values and 0.0 < LOG_SCALE_RATIO * min(values) < max(values):
        axes.set_yscale("log")
    else:
        axes.ticklabel_format(axis="y", useOffset=False)


def set_style(axes: Axes, grid_axis: Literal["both", "x", "y"] = "both") -> None:
    """Draw a light grid and no frame above and at the right."""
    axes.grid(axis=grid_axis, alpha=0.3)
    axes.spines[["top", "right"]].set_visible(False)


def _plot(axes, points, style, **options):
    if points:
        axes.plot(list(points), list(points.values()), style, lw=1.5, ms=5, **options)
