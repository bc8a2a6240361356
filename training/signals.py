"""Signals that ask a program to stop, noted instead of obeyed at once."""

import contextlib
import os
import signal
import stat
import time
from collections.abc import Iterator

AT_ONCE = 1.0  # seconds


def watched() -> list[int]:
    """SIGTERM, SIGINT, and SIGHUP as from a terminal that is closed, unless `nohup` ignores it."""
    heeded = signal.getsignal(signal.SIGHUP) != signal.SIG_IGN
    return [signal.SIGTERM, signal.SIGINT, *[signal.SIGHUP] * heeded]


def leave_closed_terminal() -> None:
    """If there is a terminal that was closed, what is still said to it goes nowhere.

    It would be an error otherwise.
    """
    for stream in (1, 2):
        device = stat.S_ISCHR(os.fstat(stream).st_mode)
        if device and not os.isatty(stream):
            os.dup2(os.open(os.devnull, os.O_WRONLY), stream)


@contextlib.contextmanager
def signals() -> Iterator[list[int]]:
    """Catches the first that asks to stop in the list it yields; a second one acts as usual.

    Unless it comes at once: a cluster may send one to a process and to its parent, which passes it
    on.
    """
    caught: list[int] = []
    times: list[float] = []
    before = {number: signal.getsignal(number) for number in watched()}

    def restore():
        for number, handler in before.items():
            signal.signal(number, handler)

    def catch(number, frame):
        del frame
        leave_closed_terminal()
        if not caught:
            caught.append(number)
            times.append(time.monotonic())
        elif time.monotonic() - times[0] > AT_ONCE:
            restore()
            signal.raise_signal(number)

    for number in before:
        signal.signal(number, catch)
    try:
        yield caught
    finally:
        restore()
