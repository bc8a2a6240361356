"""Metrics of a run, written to `metrics.jsonl` (one JSON object per line) and TensorBoard.

TensorBoard also has the config, samples, figures and attention weights of the run.

Lines are `{"step": 100, "seconds": 12.3, "loss": ...}` for training steps and `{"step": 500,
"seconds": 60.1, "dev/bleu": ...}` for evaluations. An interrupted and resumed run writes the same
lines as an uninterrupted one, except for `seconds`, `items_per_second` and `flops_utilization`.
"""

import contextlib
import json
import sys
import textwrap
import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from jaxtyping import Float, UInt8
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from training.errors import UserError
from training.files import atomic_write
from training.imports import hide_module

# tensorboardX imports PyTorch, which takes seconds, for an annotation only.
with hide_module("torch"):
    from tensorboardX import summary
    from tensorboardX.event_file_writer import EventsWriter
    from tensorboardX.proto.event_pb2 import Event, SessionLog

FILENAME = "metrics.jsonl"
FLUSH_SECONDS = 30  # how long an event for TensorBoard may stay in memory
TILE, GAP = 120, 4  # minimum height of heat maps and distance between them, in pixels


def read(workdir: str) -> list[dict]:
    """Read all lines of `metrics.jsonl`, except lines that a crash truncated or corrupted.

    Raises:
        UserError: if the file cannot be read.
    """
    path = Path(workdir) / FILENAME
    try:
        content = path.read_bytes() if path.is_file() else b""
    except OSError as error:
        raise UserError(f"Cannot read {path}: {error.strerror}; restore the file.") from error
    return [line for text in content.splitlines() if (line := _parse_line(text))]


def _parse_line(text: bytes) -> dict:
    """Parse a JSON object with a step and numbers; returns {} for any other text."""
    try:
        line = json.loads(text)
    except (ValueError, RecursionError):
        return {}
    if not isinstance(line, dict) or type(line.get("step")) is not int:
        return {}
    return line if all(map(_is_number, line.values())) else {}


def _is_number(value: object) -> bool:
    """Whether a value of JSON is a number that a float can hold (or NaN or infinite)."""
    if type(value) is int:
        return abs(value) <= sys.float_info.max
    return type(value) is float


class MetricWriter:
    """Writer of the metrics of a run that starts or resumes at `step`.

    Existing lines with a later step are removed, because the run repeats those steps.

    Args:
        workdir: run directory.
        step: step at which the run starts or resumes.
        write_files: whether to write files; if not, metrics are only kept in `lines`.
    """

    def __init__(self, workdir: str, step: int, *, write_files: bool = True):
        self.lines = [line for line in read(workdir) if line["step"] <= step]
        self._workdir, self._start, self._write_files = Path(workdir), step, write_files
        if not write_files:
            return
        path = self._workdir / FILENAME
        with atomic_write(path) as file:
            file.write("".join(json.dumps(line) + "\n" for line in self.lines).encode())
        self._tensorboard = EventFile(self._workdir / "tensorboard", step)
        self._file = path.open("a")

    def write(self, step: int, seconds: float, values: Mapping[str, float]) -> None:
        """Write metrics of a step; `seconds` is the time since the start of the run."""
        line = {"step": step, "seconds": round(seconds, 3), **values}
        self.lines.append(line)
        if not self._write_files:
            return
        self._file.write(json.dumps(line) + "\n")
        self._file.flush()
        for name, value in values.items():
            tag = name if "/" in name else f"train/{name}"
            self._tensorboard.write(step, summary.scalar(tag, value))

    def metrics_at(self, step: int, prefix: str) -> dict[str, float]:
        """Return the metrics of a step whose names start with `prefix`."""
        at_step = (line.items() for line in self.lines if line["step"] == step)
        return {k: v for items in at_step for k, v in items if k.startswith(prefix)}

    def write_config(self, config: Mapping[str, Any], metrics: Iterable[str]) -> None:
        """Write the config for the hparams plugin of TensorBoard.

        Args:
            config: values by flat key, such as 'train.steps'.
            metrics: names of metrics that the plugin shows beside the values.
        """
        if not self._write_files:
            return
        scalars = (bool, int, float, str)
        values = {k: v if isinstance(v, scalars) else json.dumps(v) for k, v in config.items()}
        experiment, start, _ = summary.hparams(values, dict.fromkeys(metrics, 0.0))
        self._tensorboard.write(self._start, experiment)
        self._tensorboard.write(self._start, start)

    def write_text(self, name: str, text: str, step: int) -> None:
        """Write preformatted text to TensorBoard."""
        if self._write_files:
            markdown = textwrap.indent(text, "    ", lambda line: True)  # a block of code
            self._tensorboard.write(step, summary.text(name, markdown))

    def write_weights(self, name: str, weights: Float[np.ndarray, "L H T S"], step: int) -> None:
        """Write attention weights to TensorBoard, as an image of `heat_maps`."""
        if self._write_files:
            self._tensorboard.write(
                step, summary.image(name, heat_maps(weights), dataformats="HWC")
            )

    def write_figure(self, name: str, figure: Figure, step: int) -> None:
        """Write a figure to `figures/NAME.png` and to TensorBoard."""
        if not self._write_files:
            return
        figure.set_dpi(150)
        canvas = FigureCanvasAgg(figure)
        path = self._workdir / "figures" / f"{name}.png"
        path.parent.mkdir(exist_ok=True)
        canvas.print_png(path)
        pixels = np.asarray(canvas.buffer_rgba())[..., :3]
        self._tensorboard.write(step, summary.image(name, pixels, dataformats="HWC"))

    def write_page(self, name: str, content: str) -> None:
        """Write an HTML page to `figures/NAME.html`."""
        if self._write_files:
            with atomic_write(self._workdir / "figures" / f"{name}.html") as file:
                file.write(content.encode())

    def close(self) -> None:
        """Flush and close the files, all of them even if one cannot be written."""
        if self._write_files:
            with contextlib.closing(self._tensorboard), contextlib.closing(self._file):
                pass


def heat_maps(weights: Float[np.ndarray, "L H T S"]) -> UInt8[np.ndarray, "Y X 3"]:
    """Return an image of attention weights: a row of tiles per layer, with a tile per head.

    A weight is a square of at least one pixel; tiles are at least `TILE` pixels high.
    """
    layers, heads, queries, keys = weights.shape
    side = -(-TILE // queries)
    pixels = matplotlib.colormaps["magma"](np.asarray(weights, np.float32), bytes=True)[..., :3]
    tiles = pixels.repeat(side, axis=2).repeat(side, axis=3)
    tiles = np.pad(tiles, [(0, 0), (0, 0), (0, GAP), (0, GAP), (0, 0)], constant_values=255)
    rows, columns = queries * side + GAP, keys * side + GAP
    return tiles.swapaxes(1, 2).reshape(layers * rows, heads * columns, 3)[:-GAP, :-GAP]


class EventFile:
    """Event file of TensorBoard, written by the calling thread.

    `tensorboardX.SummaryWriter` writes in another thread. If the disk is full, that thread ends,
    and the training waits for it forever.

    Args:
        directory: directory of the file.
        step: step at which the run starts or resumes. TensorBoard hides earlier events of later
            steps.
    """

    def __init__(self, directory: Path, step: int):
        directory.mkdir(exist_ok=True)
        self._writer = EventsWriter(str(directory / "events"))
        self._flushed = time.monotonic()
        start = SessionLog(status=SessionLog.START)
        self._writer.write_event(Event(wall_time=time.time(), step=step + 1, session_log=start))

    def write(self, step: int, content: summary.Summary) -> None:
        """Write a summary, for example of a scalar."""
        self._writer.write_event(Event(wall_time=time.time(), step=step, summary=content))
        if time.monotonic() - self._flushed > FLUSH_SECONDS:
            self._writer.flush()
            self._flushed = time.monotonic()

    def close(self) -> None:
        """Flush and close the file."""
        self._writer.close()
