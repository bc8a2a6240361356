"""Figures of sweeps, for `figure(results)` of a sweep file.

Repetitions with different seeds are shown by their mean and one dot per repetition. Failed runs are
omitted. Without results, a figure has empty panels.
"""

import re
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import EngFormatter

from training.learning_curve import curve, set_scale, set_style
from training.sweeps import Result, group_repetitions

OURS_COLOR, PAPER_COLOR = "tab:blue", "tab:orange"
NO_RESULTS = "no results"  # title of an empty panel


class Setting(NamedTuple):
    """Values of one metric for the repetitions of a run."""

    labels: dict[str, str | int | float]  # without the seed
    ours: list[float]
    paper: list[float]  # at most one value

    @property
    def name(self) -> str:
        return ", ".join(map(str, self.labels.values()))


def collect(results: Sequence[Result], metric: str) -> list[Setting]:
    """Collect a metric and the paper's value of it for each group of repetitions."""
    return [
        Setting(
            {k: v for k, v in group[0].run.labels.items() if k != "seed"},
            [s["metrics"][metric] for _, s, _ in group if s and metric in s["metrics"]],
            [group[0].run.paper[metric]] if metric in group[0].run.paper else [],
        )
        for group in group_repetitions(results)
    ]


def metric_bars(results: Sequence[Result], metrics: Sequence[str]) -> Figure:
    """Plot a panel per metric, with a bar per run and a diamond for the paper's value."""
    settings = collect(results, metrics[0])
    names = [setting.name for setting in settings]
    size = (1.5 + 3.2 * len(metrics), 1.2 + 0.32 * len(names))
    figure = Figure(figsize=size, layout="constrained")
    panels = figure.subplots(1, len(metrics), sharey=True, squeeze=False)[0]
    for axes, metric in zip(panels, metrics, strict=True):
        for y, setting in enumerate(collect(results, metric)):
            if setting.ours:
                axes.barh(y, np.mean(setting.ours), color=OURS_COLOR, alpha=0.6, label="ours")
                axes.plot(setting.ours, [y] * len(setting.ours), "o", color=OURS_COLOR, ms=3)
            if setting.paper:
                axes.plot(setting.paper, [y], "D", color=PAPER_COLOR, label="paper")
        axes.set_xlabel(metric)
        set_style(axes, grid_axis="x")
    panels[0].set_yticks(range(len(names)), names)
    panels[0].set_ylabel(", ".join(dict.fromkeys(k for x in settings for k in x.labels)))
    panels[0].invert_yaxis()
    legends = [axes.get_legend_handles_labels() for axes in panels]
    handles = {label: handle for x in legends for handle, label in zip(*x, strict=True)}
    figure.legend(
        list(handles.values()), list(handles), loc="outside upper right", ncols=2, frameon=False
    )
    return figure


def metric_heatmap(results: Sequence[Result], metric: str, rows: str, columns: str) -> Figure:
    """Plot the mean of a metric over the values of two labels, as color and number."""
    cells = {(x.labels[rows], x.labels[columns]): x for x in collect(results, metric)}
    names: list[list] = [
        list(dict.fromkeys(labels[axis] for labels in cells)) or [NO_RESULTS] for axis in (0, 1)
    ]
    means = np.array([[_mean(cells.get((r, c))) for c in names[1]] for r in names[0]])
    size = (2.5 + 0.9 * len(names[1]), 1.5 + 0.5 * len(names[0]))
    figure = Figure(figsize=size, layout="constrained")
    axes = figure.subplots()
    image = axes.imshow(np.ma.masked_invalid(means), cmap="viridis", aspect="auto")
    center = np.nanmean([np.nanmin(means), np.nanmax(means)]) if np.isfinite(means).any() else 0
    for (r, c), value in np.ndenumerate(means):
        text = f"{value:.3g}" if np.isfinite(value) else "–"
        axes.text(c, r, text, ha="center", va="center", color="w" if value <= center else "k")
    axes.set_xticks(range(len(names[1])), names[1])
    axes.set_yticks(range(len(names[0])), names[0])
    axes.set(xlabel=columns, ylabel=rows, title=metric)
    axes.tick_params(length=0)
    figure.colorbar(image)
    return figure


def metric_by_length(results: Sequence[Result], metric: str) -> Figure:
    """Plot metrics such as 'test/exact_match_9-16' against the source length, a line per run.

    Lines of test splits with sources longer than in training are dashed.
    """
    pattern = re.compile(rf"(test\w*)/{re.escape(metric)}_(\d+)-(\d+)")
    names = {name for result in results if result.summary for name in result.summary["metrics"]}
    bins = sorted(
        (match[1], (int(match[2]) + int(match[3])) / 2, match[0])
        for match in map(pattern.fullmatch, names)
        if match
    )
    figure = Figure(figsize=(6.4, 4), layout="constrained")
    axes = figure.subplots()
    for i, setting in enumerate(collect(results, metric)):
        for split in sorted({split for split, *_ in bins}):
            points = [
                (length, _mean(collect(results, name)[i]))
                for bin_split, length, name in bins
                if bin_split == split
            ]
            axes.plot(
                *zip(*points, strict=True),
                color=f"C{i}",
                marker=".",
                linestyle="-" if split == "test" else "--",
                label=setting.name if split == "test" else None,
            )
    axes.set(xlabel="source tokens (dashed: longer than in training)", ylabel=metric)
    set_style(axes)
    if axes.lines:
        axes.legend(frameon=False)
    return figure


def learning_curves(
    results: Sequence[Result], metric: str, panels: str, lines: str, unit: str
) -> Figure:
    """Plot a metric of the dev split against the number of training examples.

    Lines are means over repetitions, with their range shaded. The paper's final value on the test
    split is a dashed line. See `learning_curve.set_scale` for its axis.

    Args:
        results: runs with a constant number of examples per batch.
        metric: name without its split.
        panels: label that distinguishes the panels.
        lines: label that distinguishes the lines.
        unit: name of the training examples, in the plural.
    """
    titles = list(dict.fromkeys(result.run.labels[panels] for result in results)) or [NO_RESULTS]
    names = dict.fromkeys(result.run.labels[lines] for result in results)
    colors = {name: f"C{i}" for i, name in enumerate(names)}
    figure = Figure(figsize=(1 + 3.2 * len(titles), 3.4), layout="constrained")
    for axes, title in zip(figure.subplots(1, len(titles), squeeze=False)[0], titles, strict=True):
        values: list[float] = []
        panel = [result for result in results if result.run.labels[panels] == title]
        for group in group_repetitions(panel):
            name = group[0].run.labels[lines]
            values += _plot_curve(axes, group, metric, label=str(name), color=colors[name])
        set_scale(axes, values)
        axes.set(title=title, xlabel=unit, ylabel=metric)
        axes.xaxis.set_major_formatter(EngFormatter(sep=""))  # 100k
        set_style(axes)
    handles, labels = axes.get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside upper right", ncols=len(colors) or 1, frameon=False)
    return figure


def _plot_curve(
    axes: Axes, group: Sequence[Result], metric: str, label: str, color: str
) -> list[float]:
    """Plot the learning curve of a group of repetitions; return its values."""
    curves = [points for x in group if (points := _learning_curve(x.lines, f"dev/{metric}"))]
    examples = list(curves[0]) if curves else []
    values = [[curve[x] for curve in curves if x in curve] for x in examples]
    axes.plot(examples, [np.mean(y) for y in values], color=color, lw=1.2, label=label)
    lowest, highest = ([bound(y) for y in values] for bound in (min, max))
    axes.fill_between(examples, lowest, highest, color=color, alpha=0.2)
    if (paper := group[0].run.paper.get(f"test/{metric}")) is not None:
        axes.axhline(paper, ls="--", lw=0.8, color=color)
    return [value for y in values for value in y]


def _learning_curve(lines: Sequence[dict], name: str) -> dict[float, float]:
    """Return a metric by the number of training examples, steps times examples per step."""
    per_step = next((line["items"] for line in lines if "items" in line), 1)
    return curve(lines, name, per_step)


def _mean(setting: Setting | None) -> float:
    return float(np.mean(setting.ours)) if setting and setting.ours else np.nan
