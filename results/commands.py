"""Configs and runs of sweeps, with the rows of the papers that they reproduce."""

import functools
import importlib
import re
from pathlib import Path
from types import ModuleType
from typing import NamedTuple

CONFIGS = Path(__file__).parents[1] / "configs"
# The reason ends before the next sentence: "et al. 2014" does not end it.
NO_ROW = re.compile(r"No\s+printed\s+row:\s+(.*?)\.(?=\s+[^\d\s]|\s*$)", re.DOTALL)


class Command(NamedTuple):
    """Config, or run of a sweep without its seed.

    Attributes:
        config: name of the config.
        sweep: name of the sweep, or empty.
        run: name of the run in the sweep, or empty.
        rows: names of the rows in `configs.papers`.
        paper: printed values of these rows, by metric.
    """

    config: str
    sweep: str
    run: str
    rows: tuple[str, ...]
    paper: dict[str, float]


@functools.cache
def commands() -> dict[tuple[str, str], Command]:
    """Return all commands: of sweeps by sweep and run, of configs by '' and config."""
    found = {}
    for name in module_names("configs"):
        config = load("configs", name).get_config()
        found["", name] = Command(name, "", "", tuple(config.rows), dict(config.paper))
    for name in module_names("configs.sweeps"):
        for run in load("configs.sweeps", name).runs():
            labels = {key: value for key, value in run.labels.items() if key != "seed"}
            run_name = run._replace(labels=labels).name
            config = Path(run.config).stem
            found[name, run_name] = Command(config, name, run_name, run.rows, dict(run.paper))
    return found


def module_names(package: str) -> list[str]:
    """List the config files of 'configs' or the sweep files of 'configs.sweeps'."""
    folder = CONFIGS.parent.joinpath(*package.split("."))
    return sorted(path.stem for path in folder.glob("*.py") if path.stem != "__init__")


def load(package: str, name: str) -> ModuleType:
    """Import a config or a sweep."""
    return importlib.import_module(f"{package}.{name}")


def reason_without_row(package: str, name: str) -> str:
    """Return why a config or a sweep reproduces no row, from its docstring, or ''."""
    found = NO_ROW.search(load(package, name).__doc__ or "")
    return " ".join(found[1].split()) if found else ""
