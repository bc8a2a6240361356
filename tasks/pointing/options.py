"""Checks of config sections whose keys depend on their `kind`."""

from collections.abc import Mapping, Set
from typing import Any

from training.errors import UserError, did_you_mean


def check_options(section: str, options: Mapping[str, Any], kinds: Mapping[str, Set[str]]) -> None:
    """Check that a section has a known `kind`, and exactly the keys of this kind.

    Args:
        section: full name of the section, 'reinforce.baseline'.
        options: the section.
        kinds: keys of each kind.

    Raises:
        UserError: if the kind is unknown, or a key is unknown or missing.
    """
    kind, keys = options.get("kind", ""), options.keys() - {"kind"}
    if kind not in kinds:
        known = "' or '".join(kinds)
        raise UserError(
            f"{section}.kind must be '{known}', not '{kind}'." + did_you_mean(str(kind), kinds)
        )
    if keys != kinds[kind]:
        required = "no other keys"
        if kinds[kind]:
            required = "the keys " + " and ".join(sorted(kinds[kind]))
        raise UserError(f"{section} of kind '{kind}' must have {required}.")
