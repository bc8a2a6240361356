"""Images that are decoded once, and kept in array_record files."""

import functools
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
from array_record.python.array_record_data_source import ArrayRecordDataSource
from jaxtyping import UInt8

from tasks.files import digest
from tasks.records import is_complete, write_records
from training.errors import UserError, first_line

DECODED_DIR = Path("~/.cache/attention_atlas/decoded_images").expanduser()


class DecodedImages:
    """Images of a source, read from `DECODED_DIR` after the first access has decoded them all.

    The name of a file is a digest of the source's fingerprint and the size of the images, so that
    other images are decoded again. A record has the label, 4 bytes, and the pixels.

    Args:
        images: the source, whose order and labels do not change.
        shape: rows, columns and channels of an image.
    """

    def __init__(self, images: Any, shape: tuple[int, int, int]):
        self.classes: tuple[str, ...] = images.classes
        self._images, self._shape = images, shape

    def __len__(self) -> int:
        return len(self._images)

    @property
    def form(self) -> str:
        """Storage of the source."""
        return self._images.form

    def fingerprint(self) -> str:
        """Return the digest of the source."""
        return self._images.fingerprint()

    def check(self) -> None:
        """Decode the images, if they are not in the cache; raises `UserError` if this fails."""
        _ = self._records

    def __getitem__(self, i: int) -> tuple[UInt8[np.ndarray, "R R C"], int]:
        try:
            record = self._records[int(i)]
        except RuntimeError as error:
            raise UserError(
                f"The decoded images {self._path} are damaged ({first_line(error)}): delete the "
                "file, so that they are decoded again."
            ) from error
        pixels = np.frombuffer(record, np.uint8, offset=4).reshape(self._shape)
        return pixels, int(np.frombuffer(record, "<i4", count=1)[0])

    @functools.cached_property
    def _path(self) -> Path:
        labels = ",".join(self.classes)
        origin = digest([f"{self.fingerprint()} {self._shape} {labels}".encode()])
        return DECODED_DIR / f"{origin}.array_record"

    @functools.cached_property
    def _records(self) -> ArrayRecordDataSource:
        if not is_complete(self._path, len(self)):
            try:
                write_records(self._path, self._encode())
            except OSError as error:
                raise UserError(
                    f"Cannot write the decoded images {self._path} ({error.strerror}): check the "
                    "permissions and the free space of its disk."
                ) from error
            print(f"Decoded {len(self):,} images to {self._path}.", file=sys.stderr)
        return ArrayRecordDataSource([str(self._path)])

    def _encode(self) -> Iterator[bytes]:
        with ThreadPoolExecutor() as pool:
            for pixels, label in pool.map(self._images.__getitem__, range(len(self))):
                yield np.array(label, "<i4").tobytes() + pixels.tobytes()
