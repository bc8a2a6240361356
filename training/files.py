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

    `np.save` writes to a file of Python by functions of C, and if the disk is full, it raises an
    OSError without a number. It calls the method `write` of any other object.
    """
    writer: Any = types.SimpleNamespace(write=file.write)
    np.save(writer, array)
