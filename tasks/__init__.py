"""Lookup of tasks: `config.task` names a package or module in `tasks`, or any other module."""

import ast
import importlib
import importlib.util
from pathlib import Path
from types import ModuleType
from typing import Any

from ml_collections import ConfigDict

from training import run
from training.errors import UserError, did_you_mean


def build(config: Any, workdir: str) -> Any:
    """Import the module of a task and call its `build(config, workdir)`.

    Args:
        config: config of the run. `config.task` is the name of a package in this directory
            ('memory'), of a module in such a package ('pointing.tsp'), or of any other importable
            module ('my.module').
        workdir: run directory, where a task may store files such as a vocabulary.

    Raises:
        UserError: if the task does not exist, or rejects its config or data.
    """
    return _import_task(config.task).build(config, workdir)


def build_abstract(config: Any, workdir: str) -> Any:
    """Build a task for tracing, without reading the data if the module supports it.

    Calls `build_abstract` of the module, or `build` if the module does not define it.
    """
    module = _import_task(config.task)
    return getattr(module, "build_abstract", module.build)(config, workdir)


def read_config(workdir: str) -> ConfigDict:
    """Read the config of a run of this or an earlier version; see `training.run.read_config`."""
    return run.read_config(workdir, complete_config)


def complete_config(config: dict[str, Any]) -> dict[str, Any]:
    """Add the keys that configs of earlier versions did not have, with the values of their runs.

    Adds `train.init_from`, and calls `complete_config` of the task's package (of its module, if it
    is in no package), if that function exists. All other code expects every key.

    Args:
        config: content of the `config.json` of a run.
    """
    module = _import_task(config["task"])
    package = importlib.import_module(module.__package__ or module.__name__)
    complete = getattr(package, "complete_config", dict)
    return complete(config | {"train": {"init_from": "none"} | config["train"]})


def names() -> list[str]:
    """List the tasks in this directory without importing them: 'memory', 'pointing.tsp', ..."""
    found = []
    for path in sorted(Path(__file__).parent.glob("*/*.py")):
        nodes = ast.parse(path.read_bytes()).body
        if any(isinstance(node, ast.FunctionDef) and node.name == "build" for node in nodes):
            package = path.parent.name
            found.append(package if path.stem == "task" else f"{package}.{path.stem}")
    return sorted(found)


def _import_task(task: str) -> ModuleType:
    try:
        path = next((path for path in (f"{__name__}.{task}", task) if _exists(path)), None)
        if path is None:
            raise UserError(f"There is no task '{task}'." + did_you_mean(task, names()))
        module = importlib.import_module(path)
    except ModuleNotFoundError as error:
        raise UserError(f"The task '{task}' needs the package {error.name}: install it.") from error
    if not hasattr(module, "build"):
        raise UserError(f"'{task}' is not a task: the module has no function 'build'.")
    return module


def _exists(path: str) -> bool:
    """Return whether a module can be found; imports its parent packages."""
    if not all(part.isidentifier() for part in path.split(".")):
        return False
    try:
        return importlib.util.find_spec(path) is not None
    except ModuleNotFoundError as error:
        if f"{path}.".startswith(f"{error.name}."):  # a parent package does not exist
            return False
        raise
