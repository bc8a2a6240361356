"""Figures and tables of the executed pages."""

from collections.abc import Mapping, Sequence
from typing import Any

from IPython.display import Markdown
from matplotlib import pyplot as plt

from results import table
from training.console import format_mean, format_rows

plt.rcParams.update({"figure.dpi": 110, "font.size": 8})


def heat_maps(
    maps: Mapping[str, Any],
    columns: Sequence[str] | None = None,
    rows: Sequence[str] | None = None,
    *,
    xlabel: str = "",
    ylabel: str = "",
    size: float = 2.2,
    vmin: float = 0.0,
    vmax: float | None = 1.0,
) -> None:
    """Plot matrices as heat maps, side by side.

    Args:
        maps: matrices `[T, S]` by title.
        columns: labels of the S columns.
        rows: labels of the T rows.
        xlabel: name of the horizontal axis.
        ylabel: name of the vertical axis.
        size: width and height of a map, in inches.
        vmin: value of the darkest color.
        vmax: value of the brightest color; `None` for the largest value of each matrix.
    """
    _, grid = plt.subplots(
        1, len(maps), figsize=(size * len(maps), size), squeeze=False, sharey=True, layout="tight"
    )
    for axes, (title, matrix) in zip(grid[0], maps.items(), strict=True):
        axes.imshow(matrix, cmap="magma", vmin=vmin, vmax=vmax, aspect="auto")
        axes.set_title(title, fontsize=9)
        axes.set_xlabel(xlabel)
        if columns is not None:
            axes.set_xticks(range(len(columns)), columns, rotation=90)
    grid[0, 0].set_ylabel(ylabel)
    if rows is not None:
        grid[0, 0].set_yticks(range(len(rows)), rows)
    plt.show()


def results_table(*folders: str) -> Markdown:
    """Compare the results in `results/FOLDER/summary.json` with the published ones.

    Runs without a published result have their selection metric only.
    """
    rows = []
    for group in table.read_groups():
        if group.folder not in folders:
            continue
        for metric in group.paper or [table.selection_metric(group.config)]:
            printed, ours = group.paper.get(metric), group.values(metric)
            if ours:
                rows.append(
                    (
                        f"[{group.folder}](https://repository.invalid/results/{group.folder})",
                        group.run or "–",
                        f"`{metric}`",
                        "–" if printed is None else f"{printed:.4g}",
                        format_mean(ours),
                        table.compare(ours, printed, metric),
                    )
                )
    header = ("results", "run", "metric", "printed", "ours", "difference")
    return Markdown(format_rows(header, rows))
