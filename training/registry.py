"""Lookup of functions and classes that a config selects by name."""

import inspect
from collections.abc import Callable, Collection, Mapping
from typing import TypeVar

from training.errors import UserError, did_you_mean

T = TypeVar("T", bound=Callable)


def lookup(
    registry: Mapping[str, T], name: str, *, key: str, section: str, options: Collection[str]
) -> T:
    """Return the registry entry that a config selects, after checking the names of its options.

    Args:
        registry: functions or classes by name; the options of an entry are its keyword-only
            arguments.
        name: the selected entry.
        key: the config key that selects it, such as 'data.corpus'.
        section: the config section that contains its options, such as 'data'.
        options: names of the options in that section.

    Raises:
        UserError: if the entry does not exist, or an option is unknown or missing.
    """
    if name not in registry:
        raise UserError(
            f"Unknown {key}={name!r}; choose from {', '.join(registry)}."
            + did_you_mean(name, registry)
        )
    entry = registry[name]
    # A class's own constructor, because the metaclass of flax modules accepts any argument.
    function = entry.__init__ if isinstance(entry, type) else entry  # type: ignore[misc]
    parameters = inspect.signature(function).parameters.values()
    known = [p.name for p in parameters if p.kind is inspect.Parameter.KEYWORD_ONLY]
    for option in options:
        if option not in known:
            raise UserError(
                f"{key}={name!r} has no option {section}.{option}; its options are "
                f"{', '.join(known) or 'none'}." + did_you_mean(option, known)
            )
    if missing := [f"{section}.{option}" for option in known if option not in options]:
        raise UserError(f"{key}={name!r} needs {', '.join(missing)}: add them to the config.")
    return entry
