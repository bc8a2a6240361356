"""Deferred handling of the signals that ask a program to stop."""

import contextlib
import os
import signal
import stat
import time
from collections.abc import Iterator

DUPLICATE_SECONDS = 1.0  # a second signal within this time counts as the same request


def stop_signals() -> list[int]:
    """Return SIGTERM, SIGINT and, unless `nohup` ignores it, SIGHUP of a closed terminal."""
    hangup = signal.getsignal(signal.SIGHUP) != signal.SIG_IGN
    return [signal.SIGTERM, signal.SIGINT, *[signal.SIGHUP] * hangup]


def detach_closed_terminal() -> None:
    """Redirect stdout and stderr to the null device if their terminal was closed.

    Writing to a closed terminal would raise an error.
    """
    for stream in (1, 2):
        device = stat.S_ISCHR(os.fstat(stream).st_mode)
        if device and not os.isatty(stream):
            os.dup2(os.open(os.devnull, os.O_WRONLY), stream)


@contextlib.contextmanager
def catch_stop_signals() -> Iterator[list[int]]:
    """Yield a list to which the first signal is appended; a second one has its original effect.

    A second signal within `DUPLICATE_SECONDS` is ignored: a cluster may signal both a process and
    its parent, which forwards the signal.
    """
    caught: list[int] = []
    times: list[float] = []
    previous = {number: signal.getsignal(number) for number in stop_signals()}

    def restore():
        for number, handler in previous.items():
            signal.signal(number, handler)

    def catch(number, frame):
        del frame
        detach_closed_terminal()
        if not caught:
            caught.append(number)
            times.append(time.monotonic())
        elif time.monotonic() - times[0] > DUPLICATE_SECONDS:
            restore()
            signal.raise_signal(number)

    for number in previous:
        signal.signal(number, catch)
    try:
        yield caught
    finally:
        restore()
