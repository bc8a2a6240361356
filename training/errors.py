"""The two ways a run ends early that are not bugs."""

import contextlib
import difflib
import errno
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
        reason = first_line(error)
        raise UserError(f"the config's section '{name}' is no good: {reason}") from error


def first_line(error: BaseException) -> str:
    """What an error says, of which a sentence can be made; its name if it says nothing."""
    return (str(error).strip() or type(error).__name__).splitlines()[0][:200].rstrip(". ")


def is_full(error: Exception) -> bool:
    """Whether an error, of Python or of the storage below, is that there is no room on a disk."""
    said = isinstance(error, ValueError) and "RESOURCE_EXHAUSTED" in str(error)
    return said or (isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT))


def did_you_mean(word: str, words: Iterable[str]) -> str:
    """` Did you mean 'x'?` for the nearest of `words`, or nothing if none is near."""
    near = difflib.get_close_matches(word, list(words), n=1)
    return f" Did you mean '{near[0]}'?" if near else ""
