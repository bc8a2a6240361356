"""Deferred handling of the signals that ask a program to stop."""

import contextlib
import signal
import time
from collections.abc import Iterator

from training.streams import detach_closed_streams

DUPLICATE_SECONDS = 1.0  # a second signal within this time counts as the same request


def stop_signals() -> list[int]:
    """Return SIGTERM, SIGINT and, unless `nohup` ignores it, SIGHUP of a closed terminal."""
    hangup = signal.getsignal(signal.SIGHUP) != signal.SIG_IGN
    return [signal.SIGTERM, signal.SIGINT, *[signal.SIGHUP] * hangup]


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
        detach_closed_streams()
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
