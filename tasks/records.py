"""Computed data in array_record files, each of which is written atomically."""

import contextlib
from collections.abc import Iterable
from pathlib import Path

from array_record.python.array_record_module import ArrayRecordReader, ArrayRecordWriter

from training.errors import UserError, first_line
from training.files import atomic_write


def is_complete(path: Path, count: int) -> bool:
    """Whether a file exists and has the index of all of its records, which is at its end."""
    try:
        with contextlib.closing(ArrayRecordReader(str(path))) as reader:
            return reader.num_records() == count
    except RuntimeError:
        return False


def write_records(path: Path, records: Iterable[bytes]) -> None:
    """Write records to a file that exists only once it is complete.

    Raises:
        UserError: if the disk is full, or another error of writing.
    """
    try:
        with (
            atomic_write(path) as file,
            contextlib.closing(ArrayRecordWriter(file.name, "group_size:1")) as writer,
        ):
            for record in records:
                writer.write(record)
    except RuntimeError as error:  # of array_record
        raise UserError(
            f"Cannot write {path} ({first_line(error)}): check the free space of its disk."
        ) from error
