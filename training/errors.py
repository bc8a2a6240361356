"""Exceptions that end a program with a message instead of a stack trace."""

import contextlib
import difflib
import errno
import re
from collections.abc import Iterable, Iterator

# Permissions, (network) file systems, and the limit of open files.
INACCESSIBLE = {
    errno.EACCES,
    errno.EPERM,
    errno.EROFS,
    errno.EIO,
    errno.ESTALE,
    errno.ETIMEDOUT,
    errno.EMFILE,
}


class UserError(Exception):
    """Mistake in a command, config or file; the message is one sentence that names the fix."""


class Interrupted(Exception):  # noqa: N818 - not an error, like KeyboardInterrupt
    """Raised after a stop signal, once the state is saved; `signal` is the signal's number."""

    def __init__(self, message: str, signal: int):
        super().__init__(message)
        self.signal = signal


@contextlib.contextmanager
def config_section(name: str) -> Iterator[None]:
    """Convert errors caused by invalid config values into a `UserError` that names the section.

    Raises:
        UserError: instead of a TypeError, ValueError or ZeroDivisionError.
    """
    try:
        yield
    except (TypeError, ValueError, ZeroDivisionError) as error:
        raise UserError(f"Invalid config section '{name}': {first_line(error)}.") from error


def first_line(error: BaseException) -> str:
    """Return the first line of an error's message, or its type name if the message is empty.

    The line is limited to 200 characters and has no final period.
    """
    return (str(error).strip() or type(error).__name__).splitlines()[0][:200].rstrip(". ")


def os_error_code(error: BaseException) -> int | None:
    """Return the errno of an error of Python or of TensorStore, or None for any other error."""
    if isinstance(error, OSError):
        return error.errno
    code = (
        re.search(r"os_error_code='(\d+)'", str(error)) if isinstance(error, ValueError) else None
    )
    return int(code[1]) if code else None


def is_disk_full(error: BaseException) -> bool:
    """Return whether an error of Python or of TensorStore means that a disk or quota is full."""
    if (code := os_error_code(error)) is not None:
        return code in (errno.ENOSPC, errno.EDQUOT)
    return isinstance(error, ValueError) and "RESOURCE_EXHAUSTED" in str(error)  # cloud storage


def is_inaccessible(error: BaseException) -> bool:
    """Return whether an error means that a file, which may be intact, cannot be accessed."""
    return os_error_code(error) in INACCESSIBLE


def did_you_mean(name: str, names: Iterable[str]) -> str:
    """Return ` Did you mean 'x'?` for the closest of `names`, or '' if none is close."""
    matches = difflib.get_close_matches(name, list(names), n=1)
    return f" Did you mean '{matches[0]}'?" if matches else ""
