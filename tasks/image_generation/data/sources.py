"""Image datasets by name: `load(source='digits', resolution=32, channels=1, ...)`.

Item i of a dataset is an image, uint8 `[R, R, C]`, and its class. Images of another size are
center-cropped to a square and resized to R x R. The order of the images has no meaning: the first N
are a random sample.
"""

from collections.abc import Callable, Mapping
from typing import Any, Protocol, runtime_checkable

import numpy as np
from jaxtyping import UInt8

from tasks.image_generation.data.cifar10 import cifar10
from tasks.image_generation.data.image_files import TEST_EVERY, folder
from tasks.image_generation.data.in_memory import InMemoryImages
from tasks.image_generation.data.tfds import tfds
from tasks.images import crop_and_resize, image_from_array
from training.errors import UserError
from training.registry import lookup


@runtime_checkable
class ImageSource(Protocol):
    """Dataset of labeled images."""

    @property
    def classes(self) -> tuple[str, ...]:
        """Names of the classes; a single '' for a dataset without classes."""
        ...

    @property
    def form(self) -> str:
        """Storage of the images, such as '.jpg files'."""
        ...

    def fingerprint(self) -> str:
        """Return a digest that changes if images are added, removed or replaced."""
        ...

    def __len__(self) -> int: ...

    def check(self) -> None:
        """Check before training that the images can be read; raises `UserError` otherwise."""
        ...

    def __getitem__(self, i: int) -> tuple[UInt8[np.ndarray, "R R C"], int]: ...


def load(source: str, resolution: int, channels: int, **options: Any) -> Mapping[str, ImageSource]:
    """Open a dataset; the `data` section of a config is passed as `load(**config.data)`.

    Args:
        source: a key of `SOURCES`.
        resolution: rows and columns R of an image.
        channels: C, 1 for grayscale or 3 for RGB.
        **options: the keyword arguments of the source's function, all of them.

    Returns:
        The splits `train` and `test`.

    Raises:
        UserError: for an unknown source or option, or invalid data.
    """
    if channels not in (1, 3):
        raise UserError(f"data.channels must be 1 for grayscale or 3 for RGB, not {channels}.")
    open_source = lookup(SOURCES, source, key="data.source", section="data", options=options)
    return open_source(resolution, channels, **options)


def digits(resolution: int, channels: int) -> Mapping[str, InMemoryImages]:
    """Handwritten digits of scikit-learn: 1,797 images of 8 x 8 (Alpaydin & Kaynak 1998)."""
    from sklearn.datasets import load_digits  # takes a second, and no other source needs it

    dataset = load_digits()
    # The digits touch the image borders; without padding, augmentation would move them out.
    padded = [(np.pad(x, 1) * 255 / 16).astype(np.uint8) for x in dataset.images]
    images = [image_from_array(x, channels) for x in padded]
    pixels = np.stack([crop_and_resize(image, resolution) for image in images])
    labels = dataset.target.astype(np.int32)
    test = np.arange(len(labels)) % TEST_EVERY == TEST_EVERY - 1
    classes = tuple("0123456789")
    return {
        "train": InMemoryImages(pixels[~test], labels[~test], classes),
        "test": InMemoryImages(pixels[test], labels[test], classes),
    }


SOURCES: dict[str, Callable[..., Mapping[str, ImageSource]]] = {
    "cifar10": cifar10,
    "digits": digits,
    "folder": folder,
    "tfds": tfds,
}
