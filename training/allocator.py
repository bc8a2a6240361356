"""The C library's memory allocator, set for programs that free and ask for the same every step."""

import ctypes
import sys

# Parameters of mallopt(3).
TRIM_THRESHOLD, TOP_PAD, MMAP_MAX, ARENA_MAX = -1, -2, -4, -8


def configure_malloc() -> None:
    """Makes glibc keep freed memory instead of giving it back to the system.

    XLA on a CPU allocates its temporaries anew at each step. By default glibc maps every large one
    afresh, and the system fills it with zeros page by page when it is first touched, which can
    take a sixth of a step. The arenas that glibc gives to further threads hold nothing so large,
    so there is one for all. Elsewhere than on glibc this does nothing.
    """
    if not sys.platform.startswith("linux"):
        return
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(ARENA_MAX, 1)
        mallopt(MMAP_MAX, 0)
        mallopt(TRIM_THRESHOLD, 2**31 - 1)
        mallopt(TOP_PAD, 2**28)
