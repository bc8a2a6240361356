"""The two ways a run ends early that are not bugs."""

import difflib
from collections.abc import Iterable


class UserError(Exception):
    """One sentence that names what is wrong and how to mend it, for a person, not a stack trace."""


class Interrupted(Exception):  # noqa: N818  not an error, as KeyboardInterrupt is none
    """A signal asked the run to stop; everything is saved. `signal` is its number."""

    def __init__(self, message: str, signal: int):
        super().__init__(message)
        self.signal = signal


def did_you_mean(word: str, words: Iterable[str]) -> str:
    """` Did you mean 'x'?` for the nearest of `words`, or nothing if none is near."""
    near = difflib.get_close_matches(word, list(words), n=1)
    return f" Did you mean '{near[0]}'?" if near else ""
