"""Tasks by name: `config.task` is a package or module below `tasks`, or a module of the user's."""

import importlib
import importlib.util
import pkgutil
from types import ModuleType
from typing import Any

from training.errors import UserError, did_you_mean


def build(config: Any, workdir: str) -> Any:
    """Builds the task that a config names. The task's module is imported here, not at startup.

    Args:
        config: the config of the run. `config.task` is the name of a package here ('memory'), of
            one of its modules ('pointing.tsp'), or the dotted path of a module elsewhere
            ('my.module'); the module has a function `build(config, workdir)`.
        workdir: run directory, where a task may store what later processes need, such as a
            vocabulary.

    Raises:
        UserError: if there is no such task, or the task rejects its config or data.
    """
    return _module(config.task).build(config, workdir)


def build_abstract(config: Any, workdir: str) -> Any:
    """Builds a task for its shapes only.

    Calls the module's `build_abstract`, which does not need the data, and `build` where the module
    has none.
    """
    module = _module(config.task)
    return getattr(module, "build_abstract", module.build)(config, workdir)


def names() -> list[str]:
    """Returns the names of all tasks of this package: 'memory', 'pointing.tsp', ..."""
    packages = [package.name for package in pkgutil.iter_modules(__path__) if package.ispkg]
    found = []
    for package in packages:
        module = importlib.import_module(f"{__name__}.{package}")
        parts = [f"{package}.{part.name}" for part in pkgutil.iter_modules(module.__path__)]
        found += [name for name in (package, *parts) if _has_build(f"{__name__}.{name}")]
    return found


def _has_build(path: str) -> bool:
    return hasattr(importlib.import_module(path), "build")


def _module(task: str) -> ModuleType:
    path = f"{__name__}.{task}"
    try:
        inside = importlib.util.find_spec(path) is not None
    except ModuleNotFoundError:  # the first part of a dotted name is not a package here
        inside = False
    if not inside:
        if "." not in task:
            raise UserError(f"There is no task '{task}'." + did_you_mean(task, names()))
        path = task
    try:
        module = importlib.import_module(path)
    except ModuleNotFoundError as error:
        if not f"{path}.".startswith(f"{error.name}."):
            raise UserError(f"The task '{task}' needs the package {error.name}.") from error
        raise UserError(f"There is no task '{task}': {error}.") from error
    if not hasattr(module, "build"):
        raise UserError(f"'{task}' is not a task: it has no function 'build'.")
    return module
