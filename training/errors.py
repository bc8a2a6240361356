"""The two ways a run ends early that are not bugs."""

import contextlib
import difflib
from collections.abc import Iterable, Iterator


class UserError(Exception):
    """One sentence that names what is wrong and how to mend it, for a person, not a stack trace."""


class Interrupted(Exception):  # noqa: N818  not an error, as KeyboardInterrupt is none
    """A signal asked the run to stop; everything is saved. `signal` is its number."""

    def __init__(self, message: str, signal: int):
        super().__init__(message)
        self.signal = signal


@contextlib.contextmanager
def section(name: str) -> Iterator[None]:
    """Around what is made from a section of the config: says so if it takes no such values.

    Raises:
        UserError: in place of a TypeError, ValueError or ZeroDivisionError.
    """
    try:
        yield
    except (TypeError, ValueError, ZeroDivisionError) as error:
        reason = str(error).splitlines()[0]
        raise UserError(f"the config's section '{name}' is no good: {reason}") from error


def did_you_mean(word: str, words: Iterable[str]) -> str:
    """` Did you mean 'x'?` for the nearest of `words`, or nothing if none is near."""
    near = difflib.get_close_matches(word, list(words), n=1)
    return f" Did you mean '{near[0]}'?" if near else ""
