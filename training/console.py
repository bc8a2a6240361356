"""Terminal output of a run: a header, then a progress bar, or plain lines in a log file."""

import sys
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import IO, cast

from rich.console import Console as Terminal
from rich.live import Live
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn
from rich.table import Table
from rich.text import Text

from training.streams import ignore_closed_output


class Stdout:
    """Standard output that ignores writes to a closed terminal or pipe, so that a run goes on."""

    def write(self, text: str) -> None:
        with ignore_closed_output():
            self._file.write(text)

    def flush(self) -> None:
        with ignore_closed_output():
            self._file.flush()

    def __getattr__(self, name: str):
        return getattr(self._file, name)

    @property
    def _file(self):
        # While a progress bar is shown, rich replaces sys.stdout with a proxy.
        return getattr(sys.stdout, "rich_proxied_file", sys.stdout)


def make_terminal(*, quiet: bool = False) -> Terminal:
    """Create a rich console that does not wrap lines; notebooks get the output of a log file."""
    return Terminal(
        file=cast(IO[str], Stdout()),
        force_jupyter=False,
        highlight=False,
        soft_wrap=True,
        quiet=quiet,
    )


class Console:
    """Terminal output of the progress and the results of a run.

    Args:
        steps: total number of training steps.
        unit: unit of a batch's items, in the plural: 'tokens'.
        quiet: whether to print nothing, as on all hosts but the first.
    """

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

    def print(self, text: str) -> None:
        """Print text, above the progress bar if there is one."""
        self.terminal.print(text, markup=False)

    def header(self, rows: Mapping[str, str]) -> None:
        """Print names and values in two columns."""
        width = max(10, *map(len, rows))
        for name, value in rows.items():
            self.terminal.print(Text.assemble((f"{name:>{width}}  ", "bold"), value))

    @contextmanager
    def progress(self, step: int, peak_flops: float) -> Iterator[None]:
        """Show the progress bar while the loop runs.

        Args:
            step: step at which the loop starts.
            peak_flops: peak FLOP/s of all devices.
        """
        self._step, self._peak, self._clock = step, peak_flops, time.perf_counter()
        self._progress.update(self._bar, completed=step)
        with self._progress:
            yield

    @contextmanager
    def pause_timer(self, status: str) -> Iterator[None]:
        """Exclude the time of the context from the throughput, and show `status` in the bar."""
        start = time.perf_counter()
        self._progress.update(self._bar, status=status)
        yield
        self._clock += time.perf_counter() - start

    def advance(self, step: int, items: float, flops: float) -> None:
        """Count a finished step and its items and FLOPs."""
        self._items += items
        self._flops += flops
        self._progress.update(self._bar, completed=step)

    def report(self, step: int, loss: float) -> dict[str, float]:
        """Show the loss and the throughput since the last report; return the throughput."""
        now = time.perf_counter()
        seconds = max(now - self._clock, 1e-9)
        rate, fraction = self._items / seconds, self._flops / seconds / self._peak
        remaining = (self._steps - step) * seconds / max(step - self._step, 1)
        status = (
            f"loss {loss:.4g} · {rate:,.0f} {self._unit}/s · {fraction:.0%} of peak FLOP/s · "
            f"{format_duration(remaining)} left"
        )
        self._progress.update(self._bar, status=status)
        if not self.terminal.is_terminal:
            self.print(f"step {step}/{self._steps} · {status}")
        self._clock, self._step, self._items, self._flops = now, step, 0.0, 0.0
        return {"items_per_second": rate, "flops_utilization": fraction}

    def table(self, metrics: Mapping[str, float], paper: Mapping[str, float]) -> None:
        """Print a table of the metrics of a run and of the paper."""
        table = Table("metric", box=None, header_style="bold", pad_edge=False)
        table.add_column("ours", justify="right")
        table.add_column("paper", justify="right")
        for name in [*metrics, *(name for name in paper if name not in metrics)]:
            table.add_row(name, *(f"{d[name]:.4g}" if name in d else "" for d in (metrics, paper)))
        self.terminal.print()
        self.terminal.print(table)


def format_duration(seconds: float) -> str:
    """Format seconds: 65 -> '1:05', 3665 -> '1:01:05'."""
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{seconds:02}" if hours else f"{minutes}:{seconds:02}"


def format_bytes(size: float) -> str:
    """Format a number of bytes: 1.5 * 2**30 -> '1.50 GiB'."""
    if size >= 2**30:
        return f"{size / 2**30:.2f} GiB"
    return f"{size / 2**20:.1f} MiB" if size >= 2**20 else f"{size / 2**10:.1f} KiB"


class StatusTable:
    """Status of a sweep's runs: a table updated in place, or one line per change in a log file."""

    def __init__(self):
        self.terminal = make_terminal()
        self._live = Live(console=self.terminal, auto_refresh=False, transient=True)
        self._printed: dict[str, str] = {}

    def __enter__(self) -> "StatusTable":
        if self.terminal.is_terminal:
            self._live.start()
        return self

    def __exit__(self, *error) -> None:
        self._live.stop()

    def show(self, runs: Mapping[str, tuple[str, str]]) -> None:
        """Show the status of each run, a key of `STYLES`, and a detail such as the last loss."""
        if self.terminal.is_terminal:
            table = Table(box=None, show_header=False, pad_edge=False)
            for name, (status, detail) in runs.items():
                table.add_row(name, f"[{STYLES[status]}]{status}[/]", detail)
            self._live.update(table, refresh=True)
            return
        for name, (status, detail) in runs.items():
            if status != self._printed.get(name, "waiting"):
                self.terminal.print(f"{name}: {status} {detail}".rstrip(), markup=False)
            self._printed[name] = status


STYLES = {"waiting": "dim", "running": "yellow", "finished": "green", "failed": "red"}


def format_mean(values: Sequence[float]) -> str:
    """Format a value as '0.98', several as '0.98 ± 0.01' (sample deviation), none as a dash."""
    if not values:
        return "–"
    mean = sum(values) / len(values)
    if len(values) == 1:
        return f"{mean:.4g}"
    variance = sum((x - mean) ** 2 for x in values) / (len(values) - 1)  # also of NaN
    return f"{mean:.4g} ± {variance**0.5:.2g}"


def format_rows(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Format a table in Markdown."""
    return "\n".join(f"| {' | '.join(row)} |" for row in (header, ["---"] * len(header), *rows))
