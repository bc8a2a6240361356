"""Sweeps: runs of `train.py` that differ in a few config values, compared in one table.

A sweep file defines

    METRICS = ("test/wer",)                           # columns of the table

    def runs() -> Iterator[Run]: ...                  # the runs of the sweep

    def figure(results: list[Result]) -> Figure: ...  # see `training.plots`
"""

import csv
import functools
import importlib.util
import io
import json
import os
import re
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

from matplotlib.figure import Figure
from ml_collections import ConfigDict

from training import cli, metric_writer, run
from training.console import StatusTable, format_duration, format_mean, format_rows
from training.errors import Interrupted, UserError, first_line
from training.files import atomic_write
from training.launchers import Command, Job, Launcher
from training.signals import catch_stop_signals

TRAIN = Path(__file__).parents[1] / "train.py"
POLL_SECONDS = 0.5


class Run(NamedTuple):
    """One training run of a sweep.

    Attributes:
        config: path of the config file, in the working directory or the repository.
        labels: values that identify the run in table and figure, {"score": "dot", "seed": 0}. Runs
            that differ only in `seed` are repetitions. The joined values form the run's name, with
            characters that are unsafe in a file name replaced by "_".
        overrides: config values, {"model.score": "dot"}.
        paper: the papers' results, by metric.
        rows: names of the rows of the papers' tables that the run reproduces.
    """

    config: str
    labels: Mapping[str, str | int | float]
    overrides: Mapping[str, Any]
    paper: Mapping[str, float] = MappingProxyType({})
    rows: Sequence[str] = ()

    @property
    def name(self) -> str:
        words = (
            re.sub(r"[^\w.+-]+", "_", str(value)).strip("_.") for value in self.labels.values()
        )
        return "-".join(words)


class Result(NamedTuple):
    """Run, its `summary.json` if it has finished, and the lines of its `metrics.jsonl`."""

    run: Run
    summary: dict | None
    lines: Sequence[dict] = ()


class Sweep(NamedTuple):
    """Content of a sweep file."""

    metrics: Sequence[str]
    runs: list[Run]
    figure: Callable[[list[Result]], Figure]


class ScheduledRun(NamedTuple):
    """Validated run with its command line and run directory."""

    run: Run
    flags: list[str]
    config: ConfigDict
    workdir: Path

    @property
    def log(self) -> Path:
        return self.workdir / "log.txt"

    @property
    def command(self) -> list[str]:
        return [sys.executable, str(TRAIN), *self.flags, f"--workdir={self.workdir}"]

    def result(self) -> Result:
        """Read the result so far."""
        return Result(self.run, self.summary(), metric_writer.read(str(self.workdir)))

    def summary(self) -> dict | None:
        """Read the summary, or return None if steps remain."""
        summary = run.read_summary(str(self.workdir))
        return summary if summary and summary["steps"] >= self.config.train.steps else None

    def progress(self) -> str:
        """Describe the progress of training."""
        lines = metric_writer.read(str(self.workdir))
        return f"step {lines[-1]['step']:,} of {self.config.train.steps:,}" if lines else ""


def load(path: str) -> Sweep:
    """Load a sweep file.

    Raises:
        UserError: if the file does not exist, raises an error, or lacks a definition.
    """
    if not os.path.isfile(path):
        raise UserError(f"The sweep file {path} does not exist.")
    spec = importlib.util.spec_from_file_location(Path(path).stem, path)
    assert spec is not None and spec.loader is not None, path
    module = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
        for name in ("METRICS", "runs", "figure"):
            if not hasattr(module, name):
                raise UserError(f"{path} is not a sweep file: it does not define {name}.")
        return Sweep(module.METRICS, list(module.runs()), module.figure)
    except UserError:
        raise
    except Exception as error:  # the file may raise any exception
        raise UserError(f"{path}: {first_line(error)}") from error


def schedule(
    runs: Sequence[Run],
    workdir: str,
    overrides: Mapping[str, str],
    variant: str,
    complete: run.CompleteConfig = dict,
) -> list[ScheduledRun]:
    """Validate all runs before any of them starts.

    Args:
        runs: runs of the sweep.
        workdir: directory of the sweep; each run has a subdirectory with its name.
        overrides: config values for all runs, with precedence over the runs' own.
        variant: variant of the configs, 'smoke' or ''.
        complete: completes the config of a run of an earlier version.

    Raises:
        UserError: if a config does not exist, a key or a value is invalid, two runs have the same
            name, or a run directory belongs to another config.
    """
    _check_overrides(runs, overrides)
    scheduled: dict[str, ScheduledRun] = {}
    for item in runs:
        name = item.name
        if not re.search(r"\w", name):
            raise UserError(f"The labels {dict(item.labels)} give an empty run name: use words.")
        if name in scheduled:
            raise UserError(f"Two runs have the name '{name}': give them different labels.")
        merged = {**item.overrides, **overrides}
        argv = [f"--config={_find_config(item.config)}{':' * bool(variant)}{variant}"]
        argv += [f"--config.{key}={value}" for key, value in merged.items()]
        try:
            config = cli.parse_config(["train.py", *argv])
            run.check_same_config(config, os.path.join(workdir, name), complete)
        except UserError as error:
            raise UserError(f"Run '{name}': {error}") from error
        values = json.loads(config.to_json_best_effort())  # parsed, not strings
        item = item._replace(overrides={key: _lookup(values, key) for key in merged})
        scheduled[name] = ScheduledRun(item, argv, config, Path(workdir, name))
    if not scheduled:
        raise UserError("The sweep has no runs: let runs() yield at least one.")
    return list(scheduled.values())


def _check_overrides(runs: Sequence[Run], overrides: Mapping[str, str]) -> None:
    """Check that no override changes a value that is a label of the runs."""
    for key in overrides:
        labeled = [
            item.overrides[key]
            for item in runs
            if key in item.overrides and item.overrides[key] in item.labels.values()
        ]
        if len(set(map(str, labeled))) > 1:
            raise UserError(
                f"The sweep compares values of {key} and names its runs after them: leave out "
                f"--config.{key}."
            )


def _lookup(values: dict[str, Any], key: str) -> Any:
    """Return the value or section with the full key 'data.labels'."""
    return functools.reduce(dict.__getitem__, key.split("."), values)


def _find_config(path: str) -> str:
    """Return the path, prefixed by the repository's unless it exists in the working directory."""
    return path if os.path.exists(path.split(":")[0]) else str(TRAIN.parent / path)


def execute(scheduled: Sequence[ScheduledRun], launcher: Launcher) -> None:
    """Run all unfinished runs and show their status.

    Raises:
        UserError: if a run directory is not writable or unsupported by orbax.
        Interrupted: after a stop signal, once every run has saved and ended.
    """
    status = StatusTable()
    unfinished = [item for item in scheduled if item.summary() is None]
    with catch_stop_signals() as stop, status:
        try:
            for item in unfinished:
                run.make_workdir(item.workdir)
            submitted = launcher.submit([Command(x.run.name, x.command, x.log) for x in unfinished])
            jobs = {x.run.name: job for x, job in zip(unfinished, submitted, strict=True)}
            while not (stop or all(job.done() for job in jobs.values())):
                status.show(run_states(scheduled, jobs))
                time.sleep(POLL_SECONDS)
            if not stop:
                status.show(run_states(scheduled, jobs))
        finally:
            launcher.stop()
    if stop:
        finished = sum(item.summary() is not None for item in scheduled)
        raise Interrupted(
            f"Stopped with {finished} of {len(scheduled)} runs finished; run the same command "
            "again to resume.",
            stop[0],
        )


def run_states(
    scheduled: Sequence[ScheduledRun], jobs: Mapping[str, Job]
) -> dict[str, tuple[str, str]]:
    """Return the status and a detail of each run by name, for `StatusTable`."""
    return {item.run.name: _run_state(item, jobs.get(item.run.name)) for item in scheduled}


def _run_state(item: ScheduledRun, job: Job | None) -> tuple[str, str]:
    if job and not job.done():
        return ("running", item.progress()) if job.running() else ("waiting", "")
    summary = item.summary()
    if summary is None and job:
        return "failed", f"with code {job.result()}" if job.result() else "without a summary"
    if summary is None:
        return "waiting", ""
    duration = format_duration(summary["seconds"])
    return ("finished", f"in {duration}") if job else ("finished", f"earlier, in {duration}")


def failure_reports(scheduled: Sequence[ScheduledRun], lines: int) -> Iterator[str]:
    """Yield the last lines of the log of each run without a summary."""
    for item in scheduled:
        if item.summary() is None:
            log = item.log.read_text("utf-8", errors="replace") if item.log.exists() else ""
            tail = [line for line in log.splitlines() if line.strip()][-lines:]
            yield "\n    ".join([f"Run {item.run.name} failed; see {item.log}:", *tail])


def write_report(results: Sequence[Result], table: str, workdir: Path) -> None:
    """Write `summary.json`, the Markdown table as `table.md`, and `table.csv`."""
    run.write_json(
        workdir / "summary.json",
        [
            {"run": item.name, "overrides": dict(item.overrides)}
            | summary
            | {"paper": dict(item.paper)}
            for item, summary, _ in results
            if summary
        ],
    )
    with atomic_write(workdir / "table.md") as file:
        file.write(f"{table}\n".encode())
    rows, text = list(csv_rows(results)), io.StringIO(newline="")
    writer = csv.DictWriter(text, dict.fromkeys(key for row in rows for key in row))
    writer.writeheader()
    writer.writerows(rows)
    with atomic_write(workdir / "table.csv") as file:
        file.write(text.getvalue().encode())


def csv_rows(results: Sequence[Result]) -> Iterator[dict[str, Any]]:
    """Yield a row with all metrics for each run."""
    for item, summary, _ in results:
        paper = {f"paper {name}": value for name, value in item.paper.items()}
        row: dict[str, Any] = {"run": item.name, **item.labels, **paper}
        if summary:
            keys = ("steps", "seconds", "seed", "device", "commit")
            row |= summary["metrics"] | {key: summary[key] for key in keys}
        yield row


def group_repetitions(results: Sequence[Result]) -> list[list[Result]]:
    """Group runs whose labels differ only in the seed, in order of their first occurrence."""
    groups: dict[tuple, list[Result]] = {}
    for result in results:
        labels = tuple((k, v) for k, v in result.run.labels.items() if k != "seed")
        groups.setdefault(labels, []).append(result)
    return list(groups.values())


def markdown_table(results: Sequence[Result], metrics: Sequence[str]) -> str:
    """Format a row for each group of runs that differ only in the seed: mean and deviation."""
    labels = list(dict.fromkeys(k for x in results for k in x.run.labels if k != "seed"))
    paper_metrics = list(dict.fromkeys(name for x in results for name in x.run.paper))
    paper_columns = [f"paper {name}" for name in paper_metrics]
    header = [*labels, *metrics, *paper_columns, "runs", "steps", "total time"]
    rows = []
    for group in group_repetitions(results):
        item, done = group[0].run, [x.summary for x in group if x.summary]
        ours = ([x["metrics"][name] for x in done if name in x["metrics"]] for name in metrics)
        paper = ([item.paper[name]] if name in item.paper else [] for name in paper_metrics)
        rows.append(
            [
                *(str(item.labels.get(label, "")) for label in labels),
                *map(format_mean, (*ours, *paper)),
                str(len(done)),
                f"{max(x['steps'] for x in done):,}" if done else "–",
                format_duration(sum(x["seconds"] for x in done)) if done else "–",
            ]
        )
    return format_rows(header, rows)
