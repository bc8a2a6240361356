"""Standard streams that are closed, lose their reader, or cannot encode a character."""

import contextlib
import errno
import io
import os
import select
import signal
import sys
from collections.abc import Iterator

ENCODING_ERRORS = ("strict", "surrogateescape")  # Python's defaults; others are set by the user

# Errors of writing to a closed pipe and a closed terminal, and the corresponding signals.
CLOSED = {errno.EPIPE: signal.SIGPIPE, errno.EIO: signal.SIGHUP}
_ignored: list[int] = []  # errors that `ignore_closed_output` has ignored


def configure_streams() -> None:
    r"""Prepare the standard streams of an entry point. Must precede the opening of other files.

    A character that the encoding of standard output lacks is printed as '\xb7'. Streams that were
    closed before the start (`>&-`) write to the null device; without this, files that are opened
    later would get the descriptors 1 and 2, to which libraries print. `sys.stdin` stays None.
    """
    for descriptor in (0, 1, 2):
        try:
            os.fstat(descriptor)
        except OSError:
            null = os.open(os.devnull, os.O_RDWR)  # the lowest free descriptor: this one
            os.set_inheritable(null, True)
    sys.stdout = sys.stdout or open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115
    sys.stderr = sys.stderr or open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper) and stream.errors in ENCODING_ERRORS:
            stream.reconfigure(errors="backslashreplace")


@contextlib.contextmanager
def ignore_closed_output() -> Iterator[None]:
    """Ignore the error of writing to a terminal or a pipe that its reader has closed."""
    try:
        yield
    except OSError as error:
        if error.errno not in CLOSED:
            raise
        _ignored.append(error.errno)


@contextlib.contextmanager
def exit_on_closed_output() -> Iterator[None]:
    """Exit without a message if the reader of the output has ended, as `head` does.

    The exit code is 141, as if the signal SIGPIPE had ended the program, or 129 (SIGHUP) for a
    closed terminal.
    """
    _ignored.clear()
    try:
        try:
            yield
        except SystemExit:  # after --help
            sys.stdout.flush()
            raise
        sys.stdout.flush()
    except OSError as error:
        if error.errno not in CLOSED or not detach_closed_streams():
            raise
        sys.exit(128 + CLOSED[error.errno])
    if _ignored:
        detach_closed_streams()
        sys.exit(128 + CLOSED[_ignored[0]])


def detach_closed_streams() -> bool:
    """Redirect standard output and error to the null device if their reader has closed them.

    The reader is a terminal or the next command of a pipeline; writing would raise an error.

    Returns:
        Whether a stream was redirected.
    """
    closed = [descriptor for descriptor in (1, 2) if _is_closed(descriptor)]
    for descriptor in closed:
        null = os.open(os.devnull, os.O_WRONLY)
        os.dup2(null, descriptor)
        os.close(null)
    return bool(closed)


def _is_closed(descriptor: int) -> bool:
    """Return whether the terminal or the reading end of the pipe of a descriptor is closed."""
    poll = select.poll()
    poll.register(descriptor, 0)
    return any(events & (select.POLLERR | select.POLLHUP) for _, events in poll.poll(0))
