"""Evaluate the weights in `results/` and compare the metrics with those of the reported runs.

    python -m results.verify [NAME ...]

Without names, all directories of `results/` with a `weights.safetensors` are verified. On the kind
of processor or accelerator of the reported run, metrics must agree to four significant digits, as
`eval.py` prints them. On others, sums are rounded in another order, so that they must agree to
within `TOLERANCE`.
"""

import math
import re
import shutil
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import tasks
from training import mesh, run, weights
from training.cli import run_main
from training.console import Console
from training.errors import UserError

RESULTS = Path(__file__).parent
TOLERANCE = 0.01  # relative, or absolute for metrics below 1


class Difference(NamedTuple):
    """Metric that is not reproduced."""

    name: str
    reported: float
    found: float


def main(names: Sequence[str]) -> None:
    """Verify results, and print a line for each.

    Raises:
        UserError: if there are no such weights, or a metric differs.
    """
    mesh.initialize_devices()
    directories = [RESULTS / name for name in names] or published()
    console, failed = Console(0, ""), []
    for directory in directories:
        if not (directory / weights.FILE).exists():
            known = ", ".join(path.name for path in published())
            raise UserError(f"{directory} has no {weights.FILE}; choose from {known}.")
        reported, metrics = run.read_json(directory / run.SUMMARY), evaluate(directory)
        same_kind = device_kind(reported["device"]) == device_kind(run.device())
        differences = list(compare(reported["metrics"], metrics, same_kind))
        verdict = f"{len(metrics)} metrics agree"
        if differences:
            failed.append(directory.name)
            verdict = "; ".join(
                f"{name} is {found:.4g}, reported {value:.4g}" for name, value, found in differences
            )
        console.print(f"{directory.name}: {verdict}")
    if failed:
        raise UserError(
            f"The weights of {', '.join(failed)} do not have the reported metrics: restore "
            f"{weights.FILE} and summary.json, or train again."
        )


def published() -> list[Path]:
    """Return the directories with weights."""
    return sorted(path.parent for path in RESULTS.glob(f"*/{weights.FILE}"))


def evaluate(directory: Path) -> dict[str, float]:
    """Evaluate weights on all test splits; the directory is copied, because tasks write to it."""
    with tempfile.TemporaryDirectory() as copy:
        workdir = shutil.copytree(directory, Path(copy, directory.name))
        task = tasks.build(tasks.read_config(str(workdir)), str(workdir))
        abstract = mesh.evaluation_state(task.init)
        state = weights.restore(workdir / weights.FILE, abstract).state
        return {
            f"{split}/{name}": float(value)
            for split in task.splits
            for name, value in task.evaluate(state, split).items()
        }


def device_kind(device: str) -> str:
    """Return the kind of a device without its number: 'AMD EPYC' of 'AMD EPYC, 2 cores'."""
    return re.sub(r"^\d+ x |, \d+ cores?$", "", device)


def compare(
    reported: Mapping[str, float], metrics: Mapping[str, float], same_kind: bool
) -> Iterator[Difference]:
    """Yield the reported metrics that differ by more than the hardware explains.

    Metrics that the run did not have are ignored, and so are those of splits without `metrics`.
    """
    splits = {name.partition("/")[0] for name in metrics}
    for name, value in reported.items():
        if name.partition("/")[0] not in splits:
            continue
        found = metrics.get(name, math.nan)
        equal = f"{value:.4g}" == f"{found:.4g}"
        if not same_kind:
            equal |= abs(value - found) <= TOLERANCE * max(1.0, abs(value))
        if not equal:
            yield Difference(name, value, found)


if __name__ == "__main__":
    sys.exit(run_main(lambda: main(sys.argv[1:])))
