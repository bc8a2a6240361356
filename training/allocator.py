"""Settings of the C library's memory allocator."""

import ctypes
import sys

from training.mesh import available_cpus

# Parameters of mallopt(3).
TRIM_THRESHOLD, TOP_PAD, MMAP_MAX, ARENA_MAX = -1, -2, -4, -8
ARENAS_PER_CORE = 2  # 8 by default


def configure_malloc() -> None:
    """Make glibc reuse freed memory instead of returning it to the operating system.

    XLA allocates its CPU temporaries again at every step. By default, glibc maps each large
    temporary with mmap, and the page faults of the first access can take a sixth of the step time.
    Threads wait for each other if they share one arena: with one device per core, products in loops
    allocate at the same time. With the default number of arenas, memory is reused less. An arena
    holds at most 64 MiB per allocation, except for the one of the main thread: larger temporaries
    of other threads are mapped at every step. benchmarks/README.md has the figures.

    Has no effect without glibc.
    """
    if not sys.platform.startswith("linux"):
        return
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(ARENA_MAX, ARENAS_PER_CORE * available_cpus())
        mallopt(MMAP_MAX, 0)
        mallopt(TRIM_THRESHOLD, 2**31 - 1)
        mallopt(TOP_PAD, 2**28)
