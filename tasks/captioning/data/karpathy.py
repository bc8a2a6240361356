"""Flickr8k, Flickr30k and COCO with the splits of Karpathy & Fei-Fei 2015.

A directory contains `dataset_flickr8k.json`, `dataset_flickr30k.json` or `dataset_coco.json`, and
the folders of the images as in the archives of the datasets. Nothing is downloaded.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from tasks.captioning.data.dataset import CaptionedImages
from tasks.captioning.data.features import DIRECTORY, Encoder, open_features, vgg_encoder
from tasks.captioning.data.image_files import ImageFiles
from tasks.images import check_files
from training.errors import UserError, first_line

CAPTIONS_URL = "https://cs.stanford.edu/people/karpathy/deepimagesent/caption_datasets.zip"
SPLITS = {"train": "train", "restval": "train", "val": "dev", "test": "test"}


class Archive(NamedTuple):
    """Published images of a dataset.

    Attributes:
        url: page to download the images, or to request them.
        folder: folder of the images, or '' if Karpathy's file has the folder of each image.
    """

    url: str
    folder: str


ARCHIVES = {
    "flickr8k": Archive("https://forms.illinois.edu/sec/1713398", "Flicker8k_Dataset"),
    "flickr30k": Archive("https://forms.illinois.edu/sec/229675", "flickr30k-images"),
    "coco": Archive("https://cocodataset.org/#download (2014 train and val images)", ""),
}


def load(
    name: str, *, dir: str, resolution: int, vgg_weights: str
) -> Mapping[str, CaptionedImages]:
    """Open the splits `train`, `dev` and `test`.

    Args:
        name: a key of `ARCHIVES`.
        dir: directory of the dataset; features are kept in its folder `features`.
        resolution: rows and columns R of an image, 224 for VGG.
        vgg_weights: weights of VGG-19, whose features replace the images, or '' for the images.

    Raises:
        UserError: if a file is missing or invalid, or the header of an image cannot be read.
    """
    encoder = vgg_encoder(vgg_weights) if vgg_weights else None
    return open_splits(name, dir, resolution, encoder)


def open_splits(
    name: str, dir: str, resolution: int, encoder: Encoder | None
) -> Mapping[str, CaptionedImages]:
    """Open the splits with any encoder; see `load`."""
    root = Path(dir).expanduser()
    entries = _read(name, root)
    captions = {split: [x.captions for x in entries[split]] for split in entries}
    paths = [root / x.path for several in entries.values() for x in several]
    _check_exist(paths, name, root)
    check_files(root, paths)
    files = ImageFiles(paths, resolution)
    features = open_features(files, encoder, root / DIRECTORY) if encoder else None
    splits, start = {}, 0
    for split, several in entries.items():
        images = range(start, start + len(several))
        pixels = ImageFiles(paths[images.start : images.stop], resolution)
        inputs = pixels if features is None else features.select(images)
        splits[split] = CaptionedImages(inputs, captions[split], pixels)
        start = images.stop
    return splits


class _Entry(NamedTuple):
    """Image of Karpathy's file."""

    path: Path
    captions: tuple[str, ...]


def _read(name: str, root: Path) -> dict[str, list[_Entry]]:
    """Read Karpathy's file, as images by split."""
    path, archive = root / f"dataset_{name}.json", ARCHIVES[name]
    if not path.is_file():
        raise UserError(
            f"data.dir={str(root)!r} has no {path.name}: choose a directory with the files of "
            f"{CAPTIONS_URL} and the images from {archive.url}."
        )
    entries: dict[str, list[_Entry]] = {split: [] for split in ("train", "dev", "test")}
    try:
        for image in json.loads(path.read_bytes())["images"]:
            entries[SPLITS[image["split"]]].append(_entry(image, archive.folder))
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(
            f"{path} is not a list of captions of Karpathy ({type(error).__name__}: "
            f"{first_line(error)}): unpack {CAPTIONS_URL} again."
        ) from error
    for split, images in entries.items():
        if not images:
            raise UserError(f"{path} has no images of the split {split}: unpack {CAPTIONS_URL}.")
        for image in images if split != "train" else ():  # training reads pairs, not all images
            if not image.captions:
                raise UserError(
                    f"{path}: the image {image.path.name} of the split {split} has no captions: "
                    f"remove it from the file, or unpack {CAPTIONS_URL} again."
                )
    return entries


def _entry(image: Mapping[str, Any], folder: str) -> _Entry:
    captions = (" ".join(sentence["tokens"]) for sentence in image["sentences"])
    path = Path(folder or image["filepath"]) / image["filename"]
    return _Entry(path, tuple(caption for caption in captions if caption.strip()))


def _check_exist(paths: list[Path], name: str, root: Path) -> None:
    missing = [path for path in paths if not path.is_file()]
    if missing:
        raise UserError(
            f"{len(missing):,} of {len(paths):,} images do not exist, such as {missing[0]}: "
            f"unpack the images from {ARCHIVES[name].url} in data.dir={str(root)!r}."
        )
