"""Batches of images and labels."""

import functools
import sys
import threading
from collections.abc import Iterator

import numpy as np
from jaxtyping import Float, UInt8

from tasks.image_generation.data.sources import ImageSource, InMemoryImages
from training.errors import UserError

THREADS = 2  # threads that decode images ahead of training


class RandomBatches:
    """Infinite sequence of shuffled batches; `batches[i]` depends on the seed and i only.

    Each epoch is a new permutation of the images, without its last incomplete batch.

    Raises:
        UserError: if there are fewer images than a batch holds.
    """

    def __init__(self, images: ImageSource, batch_size: int, seed: int):
        self._images, self._batch_size, self._seed = images, batch_size, seed
        self._batches_per_epoch = len(images) // batch_size
        if not self._batches_per_epoch:
            raise UserError(
                f"batch={batch_size} exceeds the {len(images)} training images: make it smaller."
            )
        self._permutation = functools.lru_cache(maxsize=1)(self._permute)
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return sys.maxsize

    def __getitem__(self, i: int) -> dict[str, np.ndarray]:
        epoch, n = divmod(i, self._batches_per_epoch)
        with self._lock:
            permutation = self._permutation(epoch)
        start = n * self._batch_size
        return gather(self._images, permutation[start : start + self._batch_size])

    def _permute(self, epoch):
        return np.random.default_rng((self._seed, epoch)).permutation(len(self._images))


def gather(images: ImageSource, indices) -> dict[str, np.ndarray]:
    """Return a batch of the images at the given indices, and their labels."""
    if isinstance(images, InMemoryImages):
        return {"image": images.images[indices], "label": images.labels[indices]}
    pixels, labels = zip(*(images[int(i)] for i in indices), strict=True)
    return {"image": np.stack(pixels), "label": np.array(labels, np.int32)}


def sequential_batches(
    images: ImageSource, batch_size: int, count: int
) -> Iterator[tuple[dict[str, np.ndarray], int]]:
    """Yield the first `count` images in full batches, with the number of valid images per batch.

    If `count` exceeds the number of images, they are repeated from the first.
    """
    for start in range(0, count, batch_size):
        indices = np.arange(start, start + batch_size) % len(images)
        yield gather(images, indices), min(batch_size, count - start)


def to_float(images: UInt8[np.ndarray, "*B"]) -> Float[np.ndarray, "*B"]:
    """Scale pixels from 0 .. 255 to [-1, 1]."""
    return images.astype(np.float32) / 127.5 - 1.0
