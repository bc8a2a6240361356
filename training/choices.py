"""Choices that a config makes by name, and the options that belong to what was chosen."""

import inspect
from collections.abc import Callable, Collection, Mapping
from typing import TypeVar

from training.errors import UserError, did_you_mean

T = TypeVar("T", bound=Callable)


def choose(
    table: Mapping[str, T], name: str, *, key: str, section: str, options: Collection[str]
) -> T:
    """The entry that a config names, once it is sure that the config gives its options.

    Args:
        table: what there is to choose from; the options of an entry are its keyword-only arguments.
        name: the choice.
        key: where the config names it, as 'data.corpus'.
        section: where the config has its options, as 'data'.
        options: those given.

    Raises:
        UserError: if there is no such entry, or it has no such option, or needs another.
    """
    if name not in table:
        raise UserError(
            f"there is no {key}={name!r}, only {', '.join(table)}.{did_you_mean(name, table)}"
        )
    chosen = table[name]
    # Of a class's own constructor: flax puts one that takes anything before it.
    made_by = chosen.__init__ if isinstance(chosen, type) else chosen  # type: ignore[misc]
    parameters = inspect.signature(made_by).parameters.values()
    known = [p.name for p in parameters if p.kind is inspect.Parameter.KEYWORD_ONLY]
    for option in options:
        if option not in known:
            raise UserError(
                f"{key}={name!r} has no option {section}.{option}, only "
                f"{', '.join(known) or 'none at all'}.{did_you_mean(option, known)}"
            )
    if missing := [f"{section}.{option}" for option in known if option not in options]:
        raise UserError(f"{key}={name!r} needs {', '.join(missing)}: set them in the config")
    return chosen
