"""Tasks by name: `config.task` is a module here, or the dotted path of one elsewhere."""

import importlib
import pkgutil
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
    names = [module.name for module in pkgutil.iter_modules(__path__) if module.name != "base"]
    if config.task not in names and "." not in config.task:
        raise UserError(f"There is no task '{config.task}'." + did_you_mean(config.task, names))
    path = config.task if "." in config.task else f"{__name__}.{config.task}"
    return importlib.import_module(path).build(config, workdir)
