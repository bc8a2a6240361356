"""Atomic file writes, caches in read-only directories, and writing of arrays."""

import contextlib
import errno
import os
import types
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

READ_ONLY = (errno.EACCES, errno.EPERM, errno.EROFS)


@contextlib.contextmanager
def suppress_read_only() -> Iterator[None]:
    """Suppress the error of writing a cache to a directory that is read-only."""
    try:
        yield
    except OSError as error:
        if error.errno not in READ_ONLY:
            raise


@contextlib.contextmanager
def atomic_write(path: Path) -> Iterator[BinaryIO]:
    """Yield a temporary file that replaces `path` once the block exits without an error."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex}")
    try:
        with temporary.open("wb") as file:
            yield file
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def write_array(file: BinaryIO, array: np.ndarray) -> None:
    """Write an array in NumPy's `.npy` format.

    `np.save` writes to a Python file object through the C library and raises an OSError without
    `errno` if the disk is full. The wrapper makes `np.save` call `write`, whose errors have one.
    """
    writer: Any = types.SimpleNamespace(write=file.write)
    np.save(writer, array)
