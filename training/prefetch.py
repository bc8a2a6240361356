"""Prefetching of training batches in background threads."""

from collections.abc import Generator
from typing import Any

import grain


def prefetch(
    batches: Any, start_step: int = 0, threads: int = 1, buffer_size: int = 8
) -> Generator[Any]:
    """Yield `batches[start_step]`, `batches[start_step + 1]`, ... indefinitely.

    The threads end when the generator is closed or collected, or when the interpreter exits.

    Args:
        batches: infinite sequence; `batches[i]` must depend on i only, so that a resumed run sees
            the same batches.
        start_step: index of the first batch.
        threads: number of threads that prepare batches.
        buffer_size: number of batches prepared ahead.
    """
    options = grain.ReadOptions(num_threads=threads, prefetch_buffer_size=buffer_size)
    iterator = iter(grain.MapDataset.source(batches)[start_step:].to_iter_dataset(options))
    try:
        yield from iterator
    finally:
        iterator.close()
