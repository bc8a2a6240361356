"""Where images come from, by name: `load(source='digits', resolution=32, channels=1, ...)`.

Every set of images gives item `i` as (uint8 `[R, R, C]`, class). What is larger or not square is
cut: the largest square in the middle, brought to R x R by averaging areas.
"""

import contextlib
import functools
import os
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple, Protocol, runtime_checkable

import numpy as np
from jaxtyping import Float, Int, UInt8
from PIL import Image, UnidentifiedImageError

from training.choices import choose
from training.errors import UserError, first_line

IMAGE_ENDINGS = (".png", ".jpg", ".jpeg", ".webp", ".bmp")
SPLITS = {"train", "test", "val", "valid", "validation", "dev"}  # as folders are called
THREADS = 2  # that read images ahead of training
HELD_OUT = 5  # of the digits and of a folder without a test part, every fifth image is for the test


@runtime_checkable
class Images(Protocol):
    """Images with their classes."""

    @property
    def classes(self) -> tuple[str, ...]:
        """Names; a single one where nothing is said of classes."""
        ...

    def __len__(self) -> int: ...

    def __getitem__(self, i: int) -> tuple[UInt8[np.ndarray, "R R C"], int]: ...


def load(source: str, resolution: int, channels: int, **options: Any) -> Mapping[str, Images]:
    """Opens a source; a config's `data` section is passed as `load(**config.data)`.

    Args:
        source: a key of `SOURCES`.
        resolution: R, rows and columns of an image.
        channels: C, 1 for grey or 3 for colour.
        **options: the keyword arguments of the source's function, all of them.

    Returns:
        The splits `train` and `test`.

    Raises:
        UserError: for an unknown source or option, or data at fault.
    """
    if channels not in (1, 3):
        raise UserError(f"data.channels is 1 for grey or 3 for colour, not {channels}")
    chosen = choose(SOURCES, source, key="data.source", section="data", options=options)
    return chosen(resolution, channels, **options)


class Held(NamedTuple):
    """Images that fit into memory."""

    images: UInt8[np.ndarray, "N R R C"]
    labels: Int[np.ndarray, " N"]
    classes: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, i):
        return self.images[i], int(self.labels[i])


class Files(NamedTuple):
    """Images in files."""

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
                pixels = fit(image, self.resolution, self.channels)
        except (OSError, UnidentifiedImageError) as error:
            raise UserError(f"{self.paths[i]} is no image that can be read: remove it") from error
        return pixels, self.labels[i]


class Records:
    """Images of tensorflow-datasets, prepared as array_record, which `open` gives when asked for.

    A dataset's classes are known before it is prepared.
    """

    def __init__(
        self, open: Callable[[], Any], classes: tuple[str, ...], resolution: int, channels: int
    ):
        self._open, self.classes = open, classes
        self._resolution, self._channels = resolution, channels

    @functools.cached_property
    def _source(self):
        return self._open()

    def __len__(self) -> int:
        return len(self._source)

    def __getitem__(self, i: int):
        record = self._source[i]
        pixels = record["image"]
        image = Image.fromarray(pixels[..., 0] if pixels.shape[-1] == 1 else pixels)
        return fit(image, self._resolution, self._channels), int(record.get("label", 0))


def fit(image: Image.Image, resolution: int, channels: int) -> UInt8[np.ndarray, "R R C"]:
    """The square in the middle, at the resolution."""
    image = image.convert("L" if channels == 1 else "RGB")
    side = min(image.size)
    left, top = ((length - side) // 2 for length in image.size)
    box = (left, top, left + side, top + side)
    filter = Image.Resampling.BOX if side >= resolution else Image.Resampling.BICUBIC
    pixels = np.asarray(image.resize((resolution, resolution), filter, box))
    return pixels.reshape(resolution, resolution, channels)


def digits(resolution: int, channels: int) -> Mapping[str, Held]:
    """1,797 handwritten digits of 8 x 8, which come with scikit-learn (Alpaydin & Kaynak 1998)."""
    from sklearn.datasets import load_digits  # here: it takes a second, and only this needs it

    found = load_digits()
    # With a margin: they fill their squares to the edge, over which they would be turned.
    images = [Image.fromarray(np.uint8(np.pad(x, 1) * 255 / 16)) for x in found.images]
    pixels = np.stack([fit(image, resolution, channels) for image in images])
    labels = found.target.astype(np.int32)
    test = np.arange(len(labels)) % HELD_OUT == HELD_OUT - 1
    classes = tuple("0123456789")
    return {
        "train": Held(pixels[~test], labels[~test], classes),
        "test": Held(pixels[test], labels[test], classes),
    }


def folder(resolution: int, channels: int, *, dir: str) -> Mapping[str, Files]:
    """The images below `dir`: `train/CLASS/x.png` and `test/CLASS/y.png`, or without either level.

    Without `train` and `test` every fifth image, by name, is for the test; without folders of
    classes there is one class.
    """
    root = Path(dir).expanduser()
    if not (dir and root.is_dir()):
        raise UserError(f"data.dir={dir!r} is no folder: give that of the images")
    split = (root / "train").is_dir() and (root / "test").is_dir()
    folders = sorted(path.name for path in root.iterdir() if path.is_dir())
    if not split and folders and {name.lower() for name in folders} <= SPLITS:
        raise UserError(
            f"{root} holds {' and '.join(folders)}, which look like parts of a dataset, not like "
            "classes: call them train and test"
        )
    parts = {name: _files(root / name if split else root) for name in ("train", "test")}
    for name, paths in parts.items():
        if not paths:
            where = root / name if split else root
            endings = ", ".join(IMAGE_ENDINGS)
            raise UserError(f"{where} holds no images ({endings}): put some there or set data.dir")
    if not split:
        paths = parts["train"]
        parts = {
            "train": [path for i, path in enumerate(paths) if i % HELD_OUT != HELD_OUT - 1],
            "test": paths[HELD_OUT - 1 :: HELD_OUT],
        }
        if not parts["test"]:
            raise UserError(f"{root} has only {len(paths)} images: there must be {HELD_OUT}")
    tops = {name: root / name if split else root for name in parts}
    classes = sorted({_class(path, tops[name]) for name in parts for path in parts[name]})
    return {
        name: Files(
            paths,
            [classes.index(_class(path, tops[name])) for path in paths],
            tuple(classes),
            resolution,
            channels,
        )
        for name, paths in parts.items()
    }


def _files(root: Path) -> list[Path]:
    return sorted(p for p in root.rglob("*") if p.suffix.lower() in IMAGE_ENDINGS)


def _class(path: Path, top: Path) -> str:
    """The folder below the top that an image is in, or '' if it is in none."""
    parts = path.relative_to(top).parts
    return parts[0] if len(parts) > 1 else ""


def tfds(
    resolution: int, channels: int, *, dataset: str, data_dir: str, test: str
) -> Mapping[str, Records]:
    """A dataset of tensorflow-datasets with a feature `image`, prepared as array_record.

    Args:
        resolution: R.
        channels: C.
        dataset: its name, as 'cifar10'.
        data_dir: folder or bucket it was prepared in; '' is tensorflow-datasets' own default.
        test: the name of its split to test on, as 'test' or 'validation'.
    """
    import tensorflow_datasets

    where = os.path.expanduser(data_dir) or None
    command = f"python -m tasks.prepare {dataset} --data_dir={data_dir or 'DIR'}"

    @contextlib.contextmanager
    def prepared():
        try:
            yield
        except Exception as error:  # not found, no access, another format: many types
            reason = first_line(error)
            raise UserError(
                f"{dataset} is not prepared in data.data_dir={data_dir!r}, or cannot be read "
                f"({reason}): prepare it once by `{command}`"
            ) from error

    with prepared():
        builder = tensorflow_datasets.builder(dataset, data_dir=where, try_gcs=False)
        features = builder.info.features
        classes = tuple(features["label"].names) if "label" in features else ("",)
    if "image" not in features:
        raise UserError(f"{dataset} has no feature 'image', so it is no dataset of images")
    splits = {"train": "train", "test": test}
    open_split = prepared()(builder.as_data_source)
    return {
        ours: Records(functools.partial(open_split, split=theirs), classes, resolution, channels)
        for ours, theirs in splits.items()
    }


SOURCES: dict[str, Callable[..., Mapping[str, Images]]] = {
    "digits": digits,
    "folder": folder,
    "tfds": tfds,
}


class RandomBatches:
    """An endless sequence of batches; `batches[i]` depends on (seed, i) alone.

    Every image occurs once in each epoch, in an order of its own; the few that do not fill a batch
    are left out of that epoch.

    Raises:
        UserError: if there are fewer images than a batch holds.
    """

    def __init__(self, images: Images, rows: int, seed: int):
        self._images, self._rows, self._seed = images, rows, seed
        self.per_epoch = len(images) // rows
        if not self.per_epoch:
            raise UserError(f"batch={rows} is more than the {len(images)} images there are")
        self._order_of_epoch = functools.lru_cache(maxsize=1)(self._order)
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return sys.maxsize

    def __getitem__(self, i: int) -> dict[str, np.ndarray]:
        epoch, j = divmod(i, self.per_epoch)
        with self._lock:
            order = self._order_of_epoch(epoch)
        return batch_of(self._images, order[j * self._rows : (j + 1) * self._rows])

    def _order(self, epoch):
        return np.random.default_rng((self._seed, epoch)).permutation(len(self._images))


def batch_of(images: Images, chosen) -> dict[str, np.ndarray]:
    """Some images and their labels."""
    if isinstance(images, Held):
        return {"image": images.images[chosen], "label": images.labels[chosen]}
    pixels, labels = zip(*(images[int(i)] for i in chosen), strict=True)
    return {"image": np.stack(pixels), "label": np.array(labels, np.int32)}


def first_batches(
    images: Images, rows: int, count: int
) -> Iterator[tuple[dict[str, np.ndarray], int]]:
    """The first `count` images in batches of `rows`, and how many of a batch's are among them.

    From the start again where there are fewer than `count`.
    """
    for begin in range(0, count, rows):
        yield (
            batch_of(images, np.arange(begin, begin + rows) % len(images)),
            min(rows, count - begin),
        )


def to_float(images: UInt8[np.ndarray, "*B"]) -> Float[np.ndarray, "*B"]:
    """From 0 ... 255 to [-1, 1]."""
    return images.astype(np.float32) / 127.5 - 1.0
