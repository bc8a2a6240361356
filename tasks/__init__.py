"""Tasks by name: `config.task` is a module here, or the dotted path of one elsewhere."""

import importlib
import pkgutil
from types import ModuleType
from typing import Any

from training.errors import UserError, did_you_mean


def build(config: Any, workdir: str) -> Any:
    """Builds the task that a config names; its module is imported only now.

    Args:
        config: the whole run's config; `config.task` names a module with `build(config, workdir)`.
        workdir: the run's folder, where a task may keep what must outlive it (a vocabulary).

    Raises:
        UserError: if there is no such task, or the task finds its own config or data wanting.
    """
    return _module(config.task).build(config, workdir)


def outline(config: Any, workdir: str) -> Any:
    """Builds a task only as far as shapes go; without its data, if its module has an `outline`."""
    module = _module(config.task)
    return getattr(module, "outline", module.build)(config, workdir)


def _module(task: str) -> ModuleType:
    names = [module.name for module in pkgutil.iter_modules(__path__) if module.name != "base"]
    if task not in names and "." not in task:
        raise UserError(f"There is no task '{task}'." + did_you_mean(task, names))
    path = task if "." in task else f"{__name__}.{task}"
    try:
        module = importlib.import_module(path)
    except ModuleNotFoundError as error:
        if not f"{path}.".startswith(f"{error.name}."):
            raise UserError(f"The task '{task}' needs the package {error.name}.") from error
        raise UserError(f"There is no task '{task}': {error}.") from error
    if not hasattr(module, "build"):
        raise UserError(f"'{task}' is no task: it has no function 'build'.")
    return module
