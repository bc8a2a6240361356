"""Trace of a few training steps for TensorBoard and Perfetto."""

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path

import jax

DIRECTORY = "profile"  # in the run directory
SKIPPED = 3  # steps before the trace, which compile and fill caches


class Profiler:
    """Traces consecutive training steps of this process, from its step `SKIPPED` on.

    Args:
        workdir: run directory.
        steps: number of traced steps; 0 for none.
        report: is called with the path of the trace, once it is written.
    """

    def __init__(self, workdir: str, steps: int, report: Callable[[Path], None]):
        self._directory, self._report = Path(workdir, DIRECTORY), report
        self._traced = range(SKIPPED, SKIPPED + steps)
        self._count, self._active = 0, False

    @contextlib.contextmanager
    def step(self, number: int, wait: Callable[[], object]) -> Iterator[None]:
        """Mark the dispatch of a training step in the trace.

        Args:
            number: step of the run.
            wait: waits for the computation of the step.
        """
        if self._count in self._traced and not self._active:
            jax.profiler.start_trace(self._directory, create_perfetto_trace=True)
            self._active = True
        with jax.profiler.StepTraceAnnotation("train", step_num=number):
            yield
        self._count += 1
        if self._active and self._count not in self._traced:
            wait()
            self.close()

    def close(self) -> None:
        """Write the trace, if it is not written yet."""
        if self._active:
            self._active = False
            jax.profiler.stop_trace()
            self._report(self._directory)
