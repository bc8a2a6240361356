"""Signals that ask a program to stop, noted instead of obeyed at once."""

import contextlib
import signal
import time
from collections.abc import Iterator

AT_ONCE = 1.0  # seconds


@contextlib.contextmanager
def signals() -> Iterator[list[int]]:
    """Catches the first SIGTERM or SIGINT in the list it yields; a second one acts as usual.

    Unless it comes at once: a cluster may send one to a process and to its parent, which passes it
    on.
    """
    caught: list[int] = []
    watched = (signal.SIGTERM, signal.SIGINT)
    times: list[float] = []
    before = {number: signal.getsignal(number) for number in watched}

    def restore():
        for number, handler in before.items():
            signal.signal(number, handler)

    def catch(number, frame):
        del frame
        if not caught:
            caught.append(number)
            times.append(time.monotonic())
        elif time.monotonic() - times[0] > AT_ONCE:
            restore()
            signal.raise_signal(number)

    for number in watched:
        signal.signal(number, catch)
    try:
        yield caught
    finally:
        restore()
