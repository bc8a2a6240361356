"""Suppression of messages that TensorStore and orbax print besides raising an error."""

import asyncio
import contextlib
import sys
import warnings
from collections.abc import Iterator


@contextlib.contextmanager
def silence_threads() -> Iterator[None]:
    """Suppress the messages of threads and coroutines of TensorStore and orbax after an error.

    The error itself is reported by the caller. The messages continue until the garbage collector
    has removed the coroutines, so if the block fails, the process-wide hook stays installed. If it
    succeeds, the hook is restored.
    """
    original = sys.unraisablehook

    def hook(error):
        from_coroutine = asyncio.iscoroutine(error.object)
        if not from_coroutine and "Event loop is closed" not in str(error.exc_value):
            original(error)

    sys.unraisablehook = hook
    yield
    sys.unraisablehook = original  # not in a `finally`: after an error, the hook must stay


@contextlib.contextmanager
def silence_corruption() -> Iterator[None]:
    """Suppress the messages and warnings of TensorStore and orbax about a corrupted checkpoint.

    If reading fails, the warning filter stays installed, as does the hook of `silence_threads`.
    """
    stack = contextlib.ExitStack()
    stack.enter_context(warnings.catch_warnings())
    warnings.filterwarnings("ignore", "coroutine '.*' was never awaited", RuntimeWarning)
    with silence_threads():
        yield
    stack.close()  # not in a `finally`: after an error, the filter must stay
