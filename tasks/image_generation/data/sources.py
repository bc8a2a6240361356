"""Image datasets by name: `load(source='digits', resolution=32, channels=1, ...)`.

Item i of a dataset is an image, uint8 `[R, R, C]`, and its class. Images of another size are
center-cropped to a square and resized to R x R.
"""

import contextlib
import functools
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple, Protocol, runtime_checkable

import numpy as np
from jaxtyping import Int, UInt8
from PIL import Image, UnidentifiedImageError

from training.errors import UserError, first_line
from training.registry import lookup

EXTENSIONS = (".png", ".jpg", ".jpeg", ".webp", ".bmp")
SPLIT_NAMES = {"train", "test", "val", "valid", "validation", "dev"}
TEST_EVERY = 5  # datasets without a test split hold out every fifth image


@runtime_checkable
class ImageSource(Protocol):
    """Dataset of labeled images."""

    @property
    def classes(self) -> tuple[str, ...]:
        """Names of the classes; a single '' for a dataset without classes."""
        ...

    def __len__(self) -> int: ...

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

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, i):
        return self.images[i], int(self.labels[i])


class ImageFiles(NamedTuple):
    """Images that are read from files."""

    paths: list[Path]
    labels: list[int]
    classes: tuple[str, ...]
    resolution: int
    channels: int

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, i):
        try:
            with Image.open(self.paths[i]) as image:
                pixels = crop_and_resize(image, self.resolution, self.channels)
        except (OSError, UnidentifiedImageError) as error:
            raise UserError(f"{self.paths[i]} is not a readable image: remove it.") from error
        return pixels, self.labels[i]


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

    def __len__(self) -> int:
        return len(self._records)

    def __getitem__(self, i: int):
        record = self._records[i]
        pixels = record["image"]
        image = Image.fromarray(pixels[..., 0] if pixels.shape[-1] == 1 else pixels)
        pixels = crop_and_resize(image, self._resolution, self._channels)
        return pixels, int(record.get("label", 0))


def crop_and_resize(
    image: Image.Image, resolution: int, channels: int
) -> UInt8[np.ndarray, "R R C"]:
    """Crop the central square and resize it, by area averaging if it is made smaller."""
    image = image.convert("L" if channels == 1 else "RGB")
    side = min(image.size)
    left, top = ((length - side) // 2 for length in image.size)
    box = (left, top, left + side, top + side)
    filter = Image.Resampling.BOX if side >= resolution else Image.Resampling.BICUBIC
    pixels = np.asarray(image.resize((resolution, resolution), filter, box))
    return pixels.reshape(resolution, resolution, channels)


def digits(resolution: int, channels: int) -> Mapping[str, InMemoryImages]:
    """Handwritten digits of scikit-learn: 1,797 images of 8 x 8 (Alpaydin & Kaynak 1998)."""
    from sklearn.datasets import load_digits  # takes a second, and no other source needs it

    dataset = load_digits()
    # The digits touch the image borders; without padding, augmentation would move them out.
    padded = [Image.fromarray(np.uint8(np.pad(x, 1) * 255 / 16)) for x in dataset.images]
    pixels = np.stack([crop_and_resize(image, resolution, channels) for image in padded])
    labels = dataset.target.astype(np.int32)
    test = np.arange(len(labels)) % TEST_EVERY == TEST_EVERY - 1
    classes = tuple("0123456789")
    return {
        "train": InMemoryImages(pixels[~test], labels[~test], classes),
        "test": InMemoryImages(pixels[test], labels[test], classes),
    }


def folder(resolution: int, channels: int, *, dir: str) -> Mapping[str, ImageFiles]:
    """Image files below `dir`: `train/CLASS/x.png` and `test/CLASS/y.png`, or without either level.

    Without `train` and `test`, every fifth image in the order of their names is a test image.
    Without class folders, there is one class.
    """
    root = Path(dir).expanduser()
    if not (dir and root.is_dir()):
        raise UserError(f"data.dir={dir!r} is not a directory: choose the image directory.")
    has_splits = (root / "train").is_dir() and (root / "test").is_dir()
    folders = sorted(path.name for path in root.iterdir() if path.is_dir())
    if not has_splits and folders and {name.lower() for name in folders} <= SPLIT_NAMES:
        raise UserError(
            f"The folders of {root}, {' and '.join(folders)}, have names of splits instead of "
            "classes: rename them to train and test."
        )
    roots = {name: root / name if has_splits else root for name in ("train", "test")}
    paths = {name: _image_paths(directory) for name, directory in roots.items()}
    for name, directory in roots.items():
        if not paths[name]:
            raise UserError(
                f"{directory} contains no images ({', '.join(EXTENSIONS)}): add images or change "
                "data.dir."
            )
    if not has_splits:
        is_test = [i % TEST_EVERY == TEST_EVERY - 1 for i in range(len(paths["train"]))]
        paths = {
            name: [
                path for path, test in zip(paths[name], is_test, strict=True) if test == held_out
            ]
            for name, held_out in (("train", False), ("test", True))
        }
        if not paths["test"]:
            raise UserError(
                f"{root} has only {len(paths['train'])} images: add more, at least {TEST_EVERY} "
                "are needed."
            )
    labels = {name: [_class_name(path, roots[name]) for path in paths[name]] for name in paths}
    classes = sorted({label for split in labels.values() for label in split})
    return {
        name: ImageFiles(
            paths[name], [*map(classes.index, labels[name])], tuple(classes), resolution, channels
        )
        for name in paths
    }


def _image_paths(root: Path) -> list[Path]:
    return sorted(p for p in root.rglob("*") if p.suffix.lower() in EXTENSIONS)


def _class_name(path: Path, root: Path) -> str:
    """Name of the folder directly below `root` that contains the image, or '' if none does."""
    parts = path.relative_to(root).parts
    return parts[0] if len(parts) > 1 else ""


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
