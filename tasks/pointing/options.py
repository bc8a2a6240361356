"""Checks of config sections whose keys depend on their `kind`."""

from collections.abc import Mapping
from typing import Any

from training.cli import check_value
from training.errors import UserError, did_you_mean


def check_options(
    section: str, options: Mapping[str, Any], kinds: Mapping[str, Mapping[str, Any]]
) -> None:
    """Check that a section has a known `kind`, exactly the keys of this kind, and valid values.

    Args:
        section: full name of the section, 'reinforce.baseline'.
        options: the section.
        kinds: keys of each kind, with a valid value, which defines the type and the bounds.

    Raises:
        UserError: if the kind is unknown, a key is unknown or missing, or a value is invalid.
    """
    kind, keys = options.get("kind", ""), options.keys() - {"kind"}
    if kind not in kinds:
        known = "' or '".join(kinds)
        raise UserError(
            f"{section}.kind must be '{known}', not '{kind}'." + did_you_mean(str(kind), kinds)
        )
    if keys != kinds[kind].keys():
        required = "no other keys"
        if kinds[kind]:
            required = "the keys " + " and ".join(sorted(kinds[kind]))
        raise UserError(f"{section} of kind '{kind}' must have {required}.")
    for name, example in kinds[kind].items():
        check_value(f"{section}.{name}", example, options[name])
