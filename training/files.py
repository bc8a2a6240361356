"""Atomic file writes, caches in read-only directories, and writing of arrays."""

import contextlib
import errno
import os
import types
import uuid
from collections.abc import Iterable, Iterator
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
    """Yield a temporary file that replaces `path` once the block exits without an error.

    If `path` is a symbolic link, the file that it points to is replaced.
    """
    path = Path(os.path.realpath(path))
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


def write_chunks(file: BinaryIO, chunks: Iterable[np.ndarray], dtype: np.typing.DTypeLike) -> None:
    """Write the concatenation of 1-D arrays in NumPy's `.npy` format, one array at a time.

    The number of elements is known after the last array only. NumPy pads the header, so that the
    header with this number is as long as the one it replaces.
    """

    def write_header(count: int) -> None:
        descr = np.lib.format.dtype_to_descr(np.dtype(dtype))
        header = {"descr": descr, "fortran_order": False, "shape": (count,)}
        np.lib.format.write_array_header_1_0(file, header)

    write_header(0)
    start, count = file.tell(), 0
    for chunk in chunks:
        file.write(chunk.astype(dtype, copy=False).tobytes())
        count += len(chunk)
    file.seek(0)
    write_header(count)
    assert file.tell() == start, "the length of the header depends on the number of elements"
