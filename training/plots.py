"""Figures of sweeps: `figure(results)` in a sweep file is one of these, with its choices made.

Repetitions with other seeds are drawn as their mean, with a dot for each. What failed is left out.
"""

import re
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import EngFormatter

from training.sweeps import Result, repetitions

OURS, PAPERS = "tab:blue", "tab:orange"


class Row(NamedTuple):
    """Repetitions of one run."""

    labels: dict[str, str | int | float]  # without the seed
    ours: list[float]
    papers: list[float]  # one, or none

    @property
    def name(self) -> str:
        return ", ".join(map(str, self.labels.values()))


def rows_of(results: Sequence[Result], metric: str) -> list[Row]:
    """What was measured, and what the paper prints."""
    return [
        Row(
            {k: v for k, v in group[0].run.labels.items() if k != "seed"},
            [s["metrics"][metric] for _, s, _ in group if s and metric in s["metrics"]],
            [group[0].run.paper[metric]] if metric in group[0].run.paper else [],
        )
        for group in repetitions(results)
    ]


def bars(results: Sequence[Result], metrics: Sequence[str]) -> Figure:
    """A panel for each metric: a bar for each run, a diamond for the paper's figure."""
    rows = rows_of(results, metrics[0])
    names, labels = [row.name for row in rows], dict.fromkeys(k for row in rows for k in row.labels)
    size = (1.5 + 3.2 * len(metrics), 1.2 + 0.32 * len(names))
    figure = Figure(figsize=size, layout="constrained")
    panels = figure.subplots(1, len(metrics), sharey=True, squeeze=False)[0]
    for axes, metric in zip(panels, metrics, strict=True):
        for y, row in enumerate(rows_of(results, metric)):
            if row.ours:
                axes.barh(y, np.mean(row.ours), color=OURS, alpha=0.6, label="ours")
                axes.plot(row.ours, [y] * len(row.ours), "o", color=OURS, ms=3)
            if row.papers:
                axes.plot(row.papers, [y] * len(row.papers), "D", color=PAPERS, label="paper")
        axes.set_xlabel(metric)
        axes.grid(axis="x", alpha=0.3)
        axes.spines[["top", "right"]].set_visible(False)
    panels[0].set_yticks(range(len(names)), names)
    panels[0].set_ylabel(", ".join(labels))
    panels[0].invert_yaxis()
    marks = [axes.get_legend_handles_labels() for axes in panels]
    known = {label: mark for one in marks for mark, label in zip(*one, strict=True)}
    figure.legend(
        list(known.values()), list(known), loc="outside upper right", ncols=2, frameon=False
    )
    return figure


def heat_map(results: Sequence[Result], metric: str, rows: str, columns: str) -> Figure:
    """A metric as colour and number, over the values of two labels."""
    cells = {(row.labels[rows], row.labels[columns]): row for row in rows_of(results, metric)}
    sides = [list(dict.fromkeys(labels)) for labels in zip(*cells, strict=True)]
    table = np.array([[_mean(cells.get((r, c))) for c in sides[1]] for r in sides[0]])
    figure = Figure(
        figsize=(2.5 + 0.9 * len(sides[1]), 1.5 + 0.5 * len(sides[0])), layout="constrained"
    )
    axes = figure.subplots()
    image = axes.imshow(np.ma.masked_invalid(table), cmap="viridis", aspect="auto")
    middle = np.nanmean([np.nanmin(table), np.nanmax(table)]) if np.isfinite(table).any() else 0
    for (r, c), value in np.ndenumerate(table):
        said = f"{value:.3g}" if np.isfinite(value) else "–"
        axes.text(c, r, said, ha="center", va="center", color="k" if value > middle else "w")
    axes.set_xticks(range(len(sides[1])), sides[1])
    axes.set_yticks(range(len(sides[0])), sides[0])
    axes.set(xlabel=columns, ylabel=rows, title=metric)
    axes.tick_params(length=0)
    figure.colorbar(image)
    return figure


def by_length(results: Sequence[Result], metric: str) -> Figure:
    """A line for each run over source lengths, from metrics like 'test/exact_match_9-16'.

    Of splits beyond `test`, whose sentences are longer than any in training, lines are dashed.
    """
    pattern = re.compile(rf"(test\w*)/{re.escape(metric)}_(\d+)-(\d+)")
    found = {name for one in results if one.summary for name in one.summary["metrics"]}
    bins = sorted(
        (match[1], (int(match[2]) + int(match[3])) / 2, match[0])
        for match in map(pattern.fullmatch, found)
        if match
    )
    figure = Figure(figsize=(6.4, 4), layout="constrained")
    axes = figure.subplots()
    for i, row in enumerate(rows_of(results, metric)):
        for split in sorted({split for split, *_ in bins}):
            points = [
                (length, _mean(rows_of(results, name)[i]))
                for of, length, name in bins
                if of == split
            ]
            axes.plot(
                *zip(*points, strict=True),
                color=f"C{i}",
                marker=".",
                linestyle="-" if split == "test" else "--",
                label=row.name if split == "test" else None,
            )
    axes.set(xlabel="pieces of the source (dashed: longer than in training)", ylabel=metric)
    axes.grid(alpha=0.3)
    axes.spines[["top", "right"]].set_visible(False)
    if axes.lines:
        axes.legend(frameon=False)
    return figure


def curves(results: Sequence[Result], metric: str, panels: str, lines: str, unit: str) -> Figure:
    """Learning curves: a metric of the dev split against what has been learned from.

    Of repetitions the mean is drawn, and their range around it. What the paper ends at, on the test
    split, is dashed. Where values differ by more than a factor of 20, their axis is logarithmic.

    Args:
        results: of runs all of whose batches have as many items.
        metric: without the name of its split.
        panels: the label that each panel is of.
        lines: the label that each line is of.
        unit: of the items, in the plural.
    """
    places = list(dict.fromkeys(one.run.labels[panels] for one in results))
    names = dict.fromkeys(one.run.labels[lines] for one in results)
    colors = {name: f"C{n}" for n, name in enumerate(names)}
    figure = Figure(figsize=(1 + 3.2 * len(places), 3.4), layout="constrained")
    for axes, place in zip(figure.subplots(1, len(places), squeeze=False)[0], places, strict=True):
        values: list[float] = []
        for group in repetitions([one for one in results if one.run.labels[panels] == place]):
            name, color = group[0].run.labels[lines], colors[group[0].run.labels[lines]]
            courses = [c for one in group if (c := _course(one.lines, f"dev/{metric}"))]
            seen = courses[0] if courses else {}
            at = [[course[x] for course in courses if x in course] for x in seen]
            axes.plot(list(seen), [np.mean(y) for y in at], color=color, lw=1.2, label=name)
            edges = ([edge(y) for y in at] for edge in (min, max))
            axes.fill_between(list(seen), *edges, color=color, alpha=0.2)
            if (printed := group[0].run.paper.get(f"test/{metric}")) is not None:
                axes.axhline(printed, ls="--", lw=0.8, color=color)
            values += [v for y in at for v in y]
        if values and max(values) > 20 * max(min(values), 0.0):
            axes.set_yscale("log")
        axes.set(title=place, xlabel=unit, ylabel=metric)
        axes.xaxis.set_major_formatter(EngFormatter(sep=""))  # 100k
        axes.grid(alpha=0.3)
        axes.spines[["top", "right"]].set_visible(False)
    handles, labels = axes.get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside upper right", ncols=len(colors), frameon=False)
    return figure


def _course(lines: Sequence[dict], name: str) -> dict[float, float]:
    """A metric by the number of items seen, steps times the items of a step."""
    each = next((line["items"] for line in lines if "items" in line), 1)
    return {line["step"] * each: line[name] for line in lines if name in line}


def _mean(row: Row | None) -> float:
    return float(np.mean(row.ours)) if row and row.ours else np.nan
