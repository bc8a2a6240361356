"""Image datasets by name: `load(source='digits', resolution=32, channels=1, ...)`.

Item i of a dataset is an image, uint8 `[R, R, C]`, and its class. Images of another size are
center-cropped to a square and resized to R x R. The order of the images has no meaning: the first N
are a random sample.
"""

import contextlib
import functools
import os
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple, Protocol, runtime_checkable

import numpy as np
from jaxtyping import Int, UInt8

from tasks.files import digest
from tasks.image_generation.data.image_files import TEST_EVERY, folder
from tasks.images import crop_and_resize, image_from_array
from tasks.subsets import fixed_permutation
from training.errors import UserError, first_line
from training.registry import lookup


@runtime_checkable
class ImageSource(Protocol):
    """Dataset of labeled images."""

    @property
    def classes(self) -> tuple[str, ...]:
        """Names of the classes; a single '' for a dataset without classes."""
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


class InMemoryImages(NamedTuple):
    """Images that are held in memory."""

    images: UInt8[np.ndarray, "N R R C"]
    labels: Int[np.ndarray, " N"]
    classes: tuple[str, ...]

    def fingerprint(self) -> str:
        """Return a digest of the images and labels."""
        return digest([self.images.tobytes(), self.labels.tobytes()])

    def __len__(self) -> int:
        return len(self.images)

    def check(self) -> None:
        """Do nothing, because the images are in memory."""

    def __getitem__(self, i):
        return self.images[i], int(self.labels[i])


class TfdsImages:
    """Images of a tensorflow-datasets split, prepared as array_record.

    Args:
        open_split: opens the split; called at the first access, because the classes are known
            before the dataset is prepared.
        classes: names of the classes.
        resolution: R.
        channels: C.
    """

    def __init__(
        self,
        open_split: Callable[[], Any],
        classes: tuple[str, ...],
        resolution: int,
        channels: int,
    ):
        self._open_split, self.classes = open_split, classes
        self._resolution, self._channels = resolution, channels

    @functools.cached_property
    def _records(self):
        return self._open_split()

    @functools.cached_property
    def _order(self):
        return fixed_permutation(len(self))

    def fingerprint(self) -> str:
        """Return a digest of the name, version and size of the prepared dataset."""
        info, split = self._records.dataset_info, self._records.split
        return digest([f"{info.full_name}[{split}] {info.splits[split].num_bytes}".encode()])

    def __len__(self) -> int:
        return len(self._records)

    def check(self) -> None:
        """Open the dataset and read an image."""
        if len(self):
            self[0]

    def __getitem__(self, i: int):
        record = self._records[int(self._order[i])]
        image = image_from_array(record["image"], self._channels)
        return crop_and_resize(image, self._resolution), int(record.get("label", 0))


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


def tfds(
    resolution: int, channels: int, *, dataset: str, data_dir: str, test_split: str
) -> Mapping[str, TfdsImages]:
    """Dataset of tensorflow-datasets with a feature `image`, prepared as array_record.

    Args:
        resolution: R.
        channels: C.
        dataset: name of the dataset, such as 'cifar10'.
        data_dir: directory or bucket of the prepared dataset; '' for the default of
            tensorflow-datasets.
        test_split: split of the dataset that becomes `test`, such as 'test' or 'validation'.
    """
    import tensorflow_datasets  # takes half a second, and no other source needs it

    directory = os.path.expanduser(data_dir) or None
    command = f"python -m tasks.prepare {dataset} --data_dir={data_dir or 'DIR'}"

    @contextlib.contextmanager
    def convert_errors():
        try:
            yield
        except Exception as error:  # not found, no access, another format: many types
            raise UserError(
                f"{dataset} is not prepared in data.data_dir={data_dir!r}, or the directory cannot "
                f"be read ({first_line(error)}): prepare the dataset once with `{command}`."
            ) from error

    with convert_errors():
        builder = tensorflow_datasets.builder(dataset, data_dir=directory, try_gcs=False)
        features = builder.info.features
        classes = tuple(features["label"].names) if "label" in features else ("",)
    if "image" not in features:
        raise UserError(f"{dataset} has no feature 'image': choose a dataset of images.")
    open_split = convert_errors()(builder.as_data_source)
    return {
        name: TfdsImages(functools.partial(open_split, split=split), classes, resolution, channels)
        for name, split in {"train": "train", "test": test_split}.items()
    }


SOURCES: dict[str, Callable[..., Mapping[str, ImageSource]]] = {
    "digits": digits,
    "folder": folder,
    "tfds": tfds,
}
