"""Prepares training batches ahead of the step that consumes them."""

from collections.abc import Generator
from typing import Any

import grain


def prefetch(
    batches: Any, start_step: int = 0, threads: int = 1, buffer_size: int = 8
) -> Generator[Any]:
    """Batches `start_step`, `start_step` + 1, ... for ever, prepared ahead by threads.

    They are those of any endless sequence, of which `batches[i]` depends on i alone. The threads
    end with the generator: when it is closed, collected or the interpreter exits.
    """
    options = grain.ReadOptions(num_threads=threads, prefetch_buffer_size=buffer_size)
    iterator = iter(grain.MapDataset.source(batches)[start_step:].to_iter_dataset(options))
    try:
        yield from iterator
    finally:
        iterator.close()
