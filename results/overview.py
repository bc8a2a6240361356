"""Draw the README's figure, `docs/overview.png`, from four finished runs.

    python -m results.overview TRANSLATION_RUN NTM_RUN TSP_RUN SAGAN_RUN

Each argument is a run directory, of `configs/transformer_nmt.py`, `ntm_copy.py`, `ptrnet_tsp.py`
and `sagan_digits.py`. The panels are taken from the figures of the tasks.
"""

import contextlib
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

import tasks
from training import mesh
from training.checkpoints import Checkpoints

PATH = Path(__file__).parents[1] / "docs" / "overview.png"


def main(workdirs: Sequence[str]) -> None:
    """Write the figure."""
    translation, memory, tours, images = (task_figures(workdir) for workdir in workdirs)
    cross = max(translation["attention_cross"].axes, key=_sharpness)
    read, add = memory["memory_access"].axes[-2:]
    predicted, optimal = _first_of_each_row(tours["solutions"])
    panels = (
        ("Transformer: cross-attention of one head", [cross]),
        ("Neural Turing Machine: read and write weights over time", [read, add]),
        ("Pointer Network: predicted and optimal tour", [predicted, optimal]),
        ("SAGAN: attention of four positions of a digit", images["attention"].axes[:5]),
    )
    figure = Figure(figsize=(11, 7), layout="constrained")
    parts = np.asarray(figure.subfigures(2, 2)).flat
    for part, (title, sources) in zip(parts, panels, strict=True):
        part.suptitle(title, fontsize=11)
        targets = part.subplots(1, len(sources), squeeze=False)[0]
        for source, target in zip(sources, targets, strict=True):
            copy_axes(source, target)
    PATH.parent.mkdir(exist_ok=True)
    figure.savefig(PATH, dpi=100)


def task_figures(workdir: str) -> dict[str, Figure]:
    """Figures of the last checkpoint of a run."""
    task, state = restore_run(workdir)
    return task.figures(state)


def restore_run(workdir: str) -> tuple[Any, Any]:
    """Build the task of a run and restore the state of its last checkpoint."""
    config = tasks.read_config(workdir)
    task = tasks.build(config, workdir)
    abstract = mesh.evaluation_state(task.init)
    with contextlib.closing(Checkpoints.from_config(workdir, config.train)) as checkpoints:
        restored = checkpoints.restore(abstract)
    assert restored is not None, f"{workdir} has no checkpoint"
    return task, restored.state


def copy_axes(source: Axes, target: Axes) -> None:
    """Draw the images, lines, limits and labels of one axes in another."""
    for image in source.images:
        target.imshow(
            np.asarray(image.get_array()),
            cmap=image.get_cmap(),
            alpha=image.get_alpha(),
            clim=image.get_clim(),
            extent=image.get_extent(),
            interpolation=image.get_interpolation(),
            aspect=source.get_aspect(),
        )
    for line in source.lines:
        style = {name: getattr(line, f"get_{name}")() for name in ("color", "marker", "linestyle")}
        target.plot(*line.get_data(), markersize=line.get_markersize(), **style)
    target.set(xlim=source.get_xlim(), ylim=source.get_ylim(), aspect=source.get_aspect())
    target.set_title(source.get_title(), fontsize=9)
    target.set_xlabel(source.get_xlabel(), fontsize=9)
    target.set_ylabel(source.get_ylabel(), fontsize=9)
    labels = _tick_labels(source.get_shared_x_axes().get_siblings(source), "x")
    if labels and not _numeric(labels):
        target.set_xticks(source.get_xticks(), labels, rotation=90, fontsize=8)
        labels = _tick_labels(source.get_shared_y_axes().get_siblings(source), "y")
        target.set_yticks(source.get_yticks(), labels, fontsize=8)
    elif not len(source.get_xticks()):
        target.set(xticks=[], yticks=[])
    if not source.axison:
        target.set_axis_off()


def _sharpness(axes: Axes) -> float:
    """Mean of the largest attention weight of each query."""
    return float(np.mean(np.max(np.asarray(axes.images[0].get_array()), axis=-1)))


def _first_of_each_row(figure: Figure) -> list[Axes]:
    """First panel of each row of a figure with a grid of panels."""
    specs = [(axes, axes.get_subplotspec()) for axes in figure.axes]
    return [axes for axes, spec in specs if spec is not None and spec.is_first_col()]


def _tick_labels(siblings: Sequence[Axes], axis: str) -> list[str]:
    """Return the tick labels of a shared axis, which only the outer panels show."""
    for axes in siblings:
        labels = [text.get_text() for text in getattr(axes, f"get_{axis}ticklabels")()]
        if any(labels):
            return labels
    return []


def _numeric(labels: Sequence[str]) -> bool:
    return all(label.replace("−", "-").lstrip("-").replace(".", "").isdigit() for label in labels)


if __name__ == "__main__":
    main(sys.argv[1:])
