"""The record of a run: `metrics.jsonl`, one JSON object a line, and TensorBoard beside it.

Lines are `{"step": 100, "seconds": 12.3, "loss": ...}` while training and `{"step": 500, "seconds":
60.1, "dev/bleu": ...}` for an evaluation. Only `seconds` and what is timed (`items_per_second`)
differ between a run and the same run interrupted.
"""

import contextlib
import json
import os
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from tensorboardX import SummaryWriter

FILE = "metrics.jsonl"


def read(workdir: str) -> list[dict]:
    """All whole lines of a run's record; one that a crash cut off or damaged is dropped."""
    path = Path(workdir) / FILE
    lines = []
    for text in path.read_bytes().splitlines() if path.is_file() else ():
        with contextlib.suppress(ValueError):
            line = json.loads(text)
            if isinstance(line, dict) and "step" in line:
                lines.append(line)
    return lines


class MetricWriter:
    """Appends to a run's record, from `step` on.

    What an earlier process wrote beyond `step` is dropped: the run will make those steps again.
    One that does not write only remembers.
    """

    def __init__(self, workdir: str, step: int, *, writes: bool = True):
        self.lines = [line for line in read(workdir) if line["step"] <= step]
        self._workdir, self._writes = Path(workdir), writes
        if not writes:
            return
        path = self._workdir / FILE
        draft = path.with_suffix(".tmp")
        draft.write_text("".join(json.dumps(line) + "\n" for line in self.lines))
        os.replace(draft, path)  # a crash leaves the old file or the new one
        self._file = path.open("a")
        self._board = SummaryWriter(str(self._workdir / "tensorboard"), purge_step=step + 1)

    def write(self, step: int, seconds: float, values: Mapping[str, float]) -> None:
        """Records `values` at `step`, `seconds` after the run's start."""
        line = {"step": step, "seconds": round(seconds, 3), **values}
        self.lines.append(line)
        if not self._writes:
            return
        self._file.write(json.dumps(line) + "\n")
        self._file.flush()
        for name, value in values.items():
            self._board.add_scalar(name if "/" in name else f"train/{name}", value, step)

    def found(self, step: int, prefix: str) -> dict[str, float]:
        """The metrics recorded at `step` whose names begin with `prefix`."""
        at_step = (line.items() for line in self.lines if line["step"] == step)
        return {k: v for items in at_step for k, v in items if k.startswith(prefix)}

    def figure(self, name: str, figure: Figure, step: int) -> None:
        """Saves a picture as `figures/NAME.png` and shows it in TensorBoard."""
        if not self._writes:
            return
        figure.set_dpi(150)
        canvas = FigureCanvasAgg(figure)
        path = self._workdir / "figures" / f"{name}.png"
        path.parent.mkdir(exist_ok=True)
        canvas.print_png(path)
        pixels = np.asarray(canvas.buffer_rgba())[..., :3]
        self._board.add_image(name, pixels, step, dataformats="HWC")

    def close(self) -> None:
        """Writes out what is buffered."""
        if self._writes:
            self._file.close()
            self._board.close()


def learning_curve(lines: list[dict]) -> Figure:
    """Training loss, and below it each metric of the evaluations made on the way."""
    names = sorted({k for line in lines for k in line if k.startswith("dev/")})
    panels = [name for name in ("loss", *names) if any(name in line for line in lines)]
    figure = Figure(figsize=(7, 1 + 2.2 * max(len(panels), 1)), layout="constrained")
    axes = figure.subplots(max(len(panels), 1), sharex=True, squeeze=False)[:, 0]
    for axis, name in zip(axes, panels, strict=False):
        points = [(line["step"], line[name]) for line in lines if name in line]
        axis.plot(*zip(*points, strict=True), lw=1.5, marker="" if name == "loss" else ".")
        axis.set_ylabel(f"training {name}" if name == "loss" else name)
        axis.grid(alpha=0.3)
        axis.spines[["top", "right"]].set_visible(False)
    axes[-1].set_xlabel("step")
    return figure
