"""Signals that ask a program to stop, noted instead of obeyed at once."""

import contextlib
import signal
from collections.abc import Iterator


@contextlib.contextmanager
def signals() -> Iterator[list[int]]:
    """Catches the first SIGTERM or SIGINT in the list it yields; a second one acts as usual."""
    caught, watched = [], (signal.SIGTERM, signal.SIGINT)
    before = {number: signal.getsignal(number) for number in watched}

    def restore():
        for number, handler in before.items():
            signal.signal(number, handler)

    def catch(number, frame):
        del frame
        caught.append(number)
        restore()

    for number in watched:
        signal.signal(number, catch)
    try:
        yield caught
    finally:
        restore()
