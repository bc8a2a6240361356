"""What a person sees of a run: a few lines first, then a bar, or plain lines in a log file."""

import errno
import sys
import time
from collections.abc import Mapping
from contextlib import contextmanager
from typing import IO, cast

from rich.console import Console as Terminal
from rich.live import Live
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn
from rich.table import Table
from rich.text import Text


class Screen:
    """Standard output, which does no harm if it is a terminal that was closed."""

    def write(self, text: str) -> None:
        with unless_closed():
            self._file.write(text)

    def flush(self) -> None:
        with unless_closed():
            self._file.flush()

    def __getattr__(self, name: str):
        return getattr(self._file, name)

    @property
    def _file(self):
        # While there is a bar, rich has its own in the place of the standard output.
        return getattr(sys.stdout, "rich_proxied_file", sys.stdout)


@contextmanager
def unless_closed():
    """Passes over the error of writing to a closed terminal."""
    try:
        yield
    except OSError as error:
        if error.errno != errno.EIO:
            raise


def make_terminal(*, quiet: bool = False) -> Terminal:
    """Where lines go as they are, however long."""
    return Terminal(file=cast(IO[str], Screen()), highlight=False, soft_wrap=True, quiet=quiet)


class Console:
    """Prints the progress of a run of `steps` steps whose batches hold `unit`s, unless `quiet`."""

    def __init__(self, steps: int, unit: str, *, quiet: bool = False):
        self.terminal = make_terminal(quiet=quiet)
        self._steps, self._unit = steps, unit
        self._progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(bar_width=24),
            MofNCompleteColumn(),
            TextColumn("{task.fields[status]}"),
            console=self.terminal,
            disable=not self.terminal.is_terminal,
            transient=True,
        )
        self._step, self._peak, self._clock = 0, 1.0, time.perf_counter()
        self._items = self._flops = 0.0  # since the last report
        self._bar = self._progress.add_task("training", total=steps, status="compiling")

    def header(self, rows: Mapping[str, str]) -> None:
        """The first lines: what this run is."""
        width = max(10, *map(len, rows))
        for name, value in rows.items():
            self.terminal.print(Text.assemble((f"{name:>{width}}  ", "bold"), value))

    def say(self, sentence: str) -> None:
        """One line, above the bar if there is one."""
        self.terminal.print(sentence, markup=False)

    @contextmanager
    def training(self, step: int, peak: float):
        """Shows the bar while the loop runs, from `step` on; `peak` is the machine's FLOP/s."""
        self._step, self._peak, self._clock = step, peak, time.perf_counter()
        self._progress.update(self._bar, completed=step)
        with self._progress:
            yield

    @contextmanager
    def pause(self, doing: str):
        """Time spent inside counts as no training time; the bar says what is being done."""
        start = time.perf_counter()
        self._progress.update(self._bar, status=doing)
        yield
        self._clock += time.perf_counter() - start

    def advance(self, step: int, items: float, flops: float) -> None:
        """One step of `items` and `flops` is done."""
        self._items += items
        self._flops += flops
        self._progress.update(self._bar, completed=step)

    def report(self, step: int, loss: float) -> dict[str, float]:
        """Shows loss and speed since the last report; returns the timings."""
        now = time.perf_counter()
        seconds = max(now - self._clock, 1e-9)
        rate, use = self._items / seconds, self._flops / seconds / self._peak
        left = (self._steps - step) * seconds / max(step - self._step, 1)
        status = (
            f"loss {loss:.4g} · {rate:,.0f} {self._unit}/s · {use:.0%} of peak · "
            f"{duration(left)} left"
        )
        self._progress.update(self._bar, status=status)
        if not self.terminal.is_terminal:
            self.say(f"step {step}/{self._steps} · {status}")
        self._clock, self._step, self._items, self._flops = now, step, 0.0, 0.0
        return {"items_per_second": rate, "peak_fraction": use}

    def table(self, metrics: Mapping[str, float], paper: Mapping[str, float]) -> None:
        """The end of a run: its metrics beside the paper's."""
        table = Table("metric", box=None, header_style="bold", pad_edge=False)
        table.add_column("ours", justify="right")
        table.add_column("paper", justify="right")
        for name in [*metrics, *(name for name in paper if name not in metrics)]:
            table.add_row(name, *(f"{d[name]:.4g}" if name in d else "" for d in (metrics, paper)))
        self.terminal.print()
        self.terminal.print(table)


def duration(seconds: float) -> str:
    """65 -> '1:05', 3665 -> '1:01:05'."""
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{seconds:02}" if hours else f"{minutes}:{seconds:02}"


def binary(size: float) -> str:
    """1.5 * 2**30 -> '1.50 GiB'."""
    return f"{size / 2**30:.2f} GiB" if size >= 2**30 else f"{size / 2**20:.1f} MiB"


class Board:
    """The states of a sweep's runs: a table that stays in its place, or lines in a log file."""

    def __init__(self):
        self.terminal = make_terminal()
        self._live = Live(console=self.terminal, auto_refresh=False, transient=True)
        self._words: dict[str, str] = {}

    def __enter__(self) -> "Board":
        if self.terminal.is_terminal:
            self._live.start()
        return self

    def __exit__(self, *error) -> None:
        self._live.stop()

    def show(self, states: Mapping[str, tuple[str, str]]) -> None:
        """Each run's state, a word and some more; without a terminal, those whose word is new."""
        if self.terminal.is_terminal:
            table = Table(box=None, show_header=False, pad_edge=False)
            for name, (word, more) in states.items():
                table.add_row(name, f"[{STYLES[word]}]{word}[/]", more)
            self._live.update(table, refresh=True)
            return
        for name, (word, more) in states.items():
            if word != self._words.get(name, "waiting"):
                self.terminal.print(f"{name}: {word} {more}".rstrip(), markup=False)
            self._words[name] = word


STYLES = {"waiting": "dim", "running": "yellow", "finished": "green", "failed": "red"}
