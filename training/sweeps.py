"""Sweeps: runs of `train.py` that differ in a few values, and the table they make together.

A sweep file has

    METRICS = ("test/wer",)                     # the columns of its table

    def runs() -> Iterator[Run]: ...             # what is run

    def figure(results: list[Result]) -> Figure: ...  # see `training.plots`
"""

import csv
import importlib.util
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
from training.console import Board, duration
from training.errors import Interrupted, UserError, first_line
from training.launchers import Command, Job, Launcher
from training.signals import signals

TRAIN = Path(__file__).parents[1] / "train.py"
POLL = 0.5  # seconds


class Run(NamedTuple):
    """One training of a sweep.

    Attributes:
        config: the config file.
        labels: its coordinates in table and figure, {"score": "dot", "seed": 0}; runs that differ
            in `seed` alone are repetitions. The values together are its name, in which "_" stands
            for what a folder should not be called.
        overrides: values of the config's keys, {"model.score": "dot"}.
        paper: what the paper prints for it, by metric.
    """

    config: str
    labels: Mapping[str, str | int | float]
    overrides: Mapping[str, Any]
    paper: Mapping[str, float] = MappingProxyType({})

    @property
    def name(self) -> str:
        words = (
            re.sub(r"[^\w.+-]+", "_", str(value)).strip("_.") for value in self.labels.values()
        )
        return "-".join(words)


class Result(NamedTuple):
    """A run, its `summary.json` if it has finished, and the lines of its record."""

    run: Run
    summary: dict | None
    lines: Sequence[dict] = ()


class Sweep(NamedTuple):
    """What a sweep file says."""

    metrics: Sequence[str]
    runs: list[Run]
    figure: Callable[[list[Result]], Figure]


class Planned(NamedTuple):
    """A run that has been checked, with its folder."""

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
        """What there is of the run so far."""
        return Result(self.run, self.summary(), metric_writer.read(str(self.workdir)))

    def summary(self) -> dict | None:
        """What the run ended with, or None while it has steps to go."""
        found = run.read_summary(str(self.workdir))
        return found if found and found["steps"] >= self.config.train.steps else None

    def progress(self) -> str:
        """How far it is."""
        lines = metric_writer.read(str(self.workdir))
        return f"step {lines[-1]['step']:,} of {self.config.train.steps:,}" if lines else ""


def load(path: str) -> Sweep:
    """Reads a sweep file.

    Raises:
        UserError: if there is none, it lacks one of its three parts, or cannot be run.
    """
    if not os.path.isfile(path):
        raise UserError(f"There is no sweep file {path}.")
    spec = importlib.util.spec_from_file_location(Path(path).stem, path)
    assert spec is not None and spec.loader is not None, path
    module = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
        for part in ("METRICS", "runs", "figure"):
            if not hasattr(module, part):
                raise UserError(f"{path} is no sweep: it has no {part}.")
        return Sweep(module.METRICS, list(module.runs()), module.figure)
    except UserError:
        raise
    except Exception as error:  # a file is run, and may do whatever it likes
        raise UserError(f"{path}: {first_line(error)}") from error


def plan(
    runs: Sequence[Run], workdir: str, changes: Mapping[str, str], variant: str
) -> list[Planned]:
    """Checks every run before any is started.

    Args:
        runs: of the sweep.
        workdir: its folder, in which each run has one by its name.
        changes: further overrides for all of them, which come before their own.
        variant: of the configs, 'smoke' or ''.

    Raises:
        UserError: a config that is not there, a key or value it does not have, two runs of one
            name, a folder of another run.
    """
    planned: dict[str, Planned] = {}
    for one in runs:
        name = one.name
        if not re.search(r"\w", name):
            raise UserError(f"The run {dict(one.labels)} has no name: let its labels be words.")
        if name in planned:
            raise UserError(f"Two runs are called '{name}': give them different labels.")
        overrides = {**one.overrides, **changes}
        argv = [f"--config={one.config}{':' * bool(variant)}{variant}"]
        argv += [f"--config.{key}={value}" for key, value in overrides.items()]
        try:
            config = cli.read_config(["train.py", *argv])
            run.check_same(config, os.path.join(workdir, name))
        except UserError as error:
            raise UserError(f"Run '{name}': {error}") from error
        values = run.flatten(json.loads(config.to_json_best_effort()))  # a change is but a string
        one = one._replace(overrides={key: values[key] for key in overrides})
        planned[name] = Planned(one, argv, config, Path(workdir, name))
    if not planned:
        raise UserError("The sweep has no runs.")
    return list(planned.values())


def execute(planned: Sequence[Planned], launcher: Launcher) -> dict[str, int]:
    """Runs what has not finished, shows how it goes, and returns the exit code of each.

    Raises:
        UserError: a folder that cannot be written.
        Interrupted: after a signal to stop, once every run has saved and ended.
    """
    board, left = Board(), [one for one in planned if one.summary() is None]
    with signals() as stop, board:
        try:
            for one in left:
                run.make_folder(one.workdir)
            started = launcher.submit([Command(one.run.name, one.command, one.log) for one in left])
            jobs = {one.run.name: job for one, job in zip(left, started, strict=True)}
            while not (stop or all(job.done() for job in jobs.values())):
                board.show(states(planned, jobs))
                time.sleep(POLL)
            if not stop:
                board.show(states(planned, jobs))
        finally:
            launcher.stop()
    if stop:
        done = sum(one.summary() is not None for one in planned)
        raise Interrupted(
            f"Stopped with {done} of {len(planned)} runs finished; the same command goes on.",
            stop[0],
        )
    return {name: job.result() for name, job in jobs.items()}


def states(planned: Sequence[Planned], jobs: Mapping[str, Job]) -> dict[str, tuple[str, str]]:
    """Where each run is, by name, for the board."""
    return {one.run.name: state(one, jobs) for one in planned}


def state(one: Planned, jobs: Mapping[str, Job]) -> tuple[str, str]:
    """A word for where a run is, and a few more."""
    job = jobs.get(one.run.name)
    if job and not job.done():
        return ("running", one.progress()) if job.running() else ("waiting", "")
    if job and job.result():
        return "failed", f"with code {job.result()}"
    summary = one.summary()
    if summary is None:
        return ("failed", "without a summary") if job else ("waiting", "")
    took = duration(summary["seconds"])
    return ("finished", f"in {took}") if job else ("finished", f"before, in {took}")


def failures(planned: Sequence[Planned], lines: int) -> Iterator[str]:
    """What is to be said of each run without a summary: the end of its log."""
    for one in planned:
        if one.summary() is None:
            log = one.log.read_text(errors="replace") if one.log.exists() else ""
            end = [line for line in log.splitlines() if line.strip()][-lines:]
            yield "\n    ".join([f"{one.run.name} failed, as {one.log} tells:", *end])


def record(results: Sequence[Result], metrics: Sequence[str], workdir: Path) -> str:
    """Writes `summary.json`, `table.md` and `table.csv`; returns the table."""
    run.write_json(
        workdir / "summary.json",
        [
            {"run": one.name, "overrides": dict(one.overrides)}
            | summary
            | {"paper": dict(one.paper)}
            for one, summary, _ in results
            if summary
        ],
    )
    table = markdown(results, metrics)
    (workdir / "table.md").write_text(table + "\n")
    with (workdir / "table.csv").open("w", newline="") as file:
        rows = list(csv_rows(results))
        writer = csv.DictWriter(file, dict.fromkeys(key for row in rows for key in row))
        writer.writeheader()
        writer.writerows(rows)
    return table


def csv_rows(results: Sequence[Result]) -> Iterator[dict[str, Any]]:
    """A row for each run, with all that it measured."""
    for one, summary, _ in results:
        papers = {f"paper {name}": value for name, value in one.paper.items()}
        row: dict[str, Any] = {"run": one.name, **one.labels, **papers}
        if summary:
            rest = ("steps", "seconds", "seed", "device", "commit")
            row |= summary["metrics"] | {key: summary[key] for key in rest}
        yield row


def repetitions(results: Sequence[Result]) -> list[list[Result]]:
    """The runs in order, together where their labels differ in the seed alone."""
    groups: dict[tuple, list[Result]] = {}
    for result in results:
        labels = tuple((k, v) for k, v in result.run.labels.items() if k != "seed")
        groups.setdefault(labels, []).append(result)
    return list(groups.values())


def markdown(results: Sequence[Result], metrics: Sequence[str]) -> str:
    """A row for each run, or for the mean and standard deviation of its repetitions."""
    labels = list(dict.fromkeys(k for one in results for k in one.run.labels if k != "seed"))
    printed = list(dict.fromkeys(name for one in results for name in one.run.paper))
    header = [*labels, *metrics, *(f"paper's {name}" for name in printed), "runs", "steps", "time"]
    rows = [header, ["---"] * len(header)]
    for group in repetitions(results):
        first, done = group[0].run, [one.summary for one in group if one.summary]
        ours = ([x["metrics"][name] for x in done if name in x["metrics"]] for name in metrics)
        papers = ([first.paper[name]] if name in first.paper else [] for name in printed)
        rows.append(
            [
                *(str(first.labels.get(label, "")) for label in labels),
                *map(_spread, (*ours, *papers)),
                str(len(done)),
                f"{max(x['steps'] for x in done):,}" if done else "–",
                duration(sum(x["seconds"] for x in done)) if done else "–",
            ]
        )
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def _spread(values: Sequence[float]) -> str:
    """'0.98', '0.98 ± 0.01' of several, a dash of none."""
    if not values:
        return "–"
    mean = sum(values) / len(values)
    if len(values) == 1:
        return f"{mean:.4g}"
    variance = sum((x - mean) ** 2 for x in values) / (len(values) - 1)
    return f"{mean:.4g} ± {variance**0.5:.2g}"
