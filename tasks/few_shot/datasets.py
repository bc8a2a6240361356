"""Images by class, for each split."""

import os
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np

from tasks.archives import open_tree
from tasks.few_shot import omniglot
from tasks.few_shot.episodes import Classes
from tasks.few_shot.glyphs import ROTATIONS, glyphs
from tasks.images import EXTENSIONS, crop_and_resize, image_from_array, read_image
from training.errors import UserError

SPLIT_FOLDERS = {"train": ("train",), "dev": ("val", "dev", "validation"), "test": ("test",)}
DEV_CHARACTERS = 100  # characters of Omniglot's training set that are held out for dev


def load(*, source: str, image_size: int, data_dir: str) -> Mapping[str, Classes]:
    """Load the classes of each split.

    Args:
        source: 'glyphs', rendered from fonts; 'omniglot' from tensorflow-datasets; or a key of
            `omniglot.ARCHIVES`, from the official archives; or 'image_folders', color images.
        image_size: P, height and width of an image.
        data_dir: directory of the prepared Omniglot, '' for the default of tensorflow-datasets;
            directory of the archives; or see `image_folders`.

    Returns:
        The splits `train`, `dev` and, except for the small sets of Omniglot, `test`.

    Raises:
        UserError: if the source does not exist or is not prepared.
    """
    if source == "glyphs":
        return glyphs(image_size)
    if source == "omniglot":
        return prepared_omniglot(image_size, data_dir)
    if source in omniglot.ARCHIVES:
        return omniglot.load_classes(source, data_dir, image_size)
    if source == "image_folders":
        return image_folders(image_size, data_dir)
    names = ", ".join(("glyphs", "omniglot", *omniglot.ARCHIVES, "image_folders"))
    raise UserError(f"Unknown data.source '{source}': choose one of {names}.")


def load_runs(*, source: str, image_size: int, data_dir: str) -> omniglot.OneShotRuns | None:
    """Load the one-shot runs that belong to a source, or return None if it has none."""
    return omniglot.load_runs(data_dir, image_size) if source in omniglot.ARCHIVES else None


def channels(source: str) -> int:
    """Return the number of channels C of the images of a source."""
    return 3 if source == "image_folders" else 1


def image_folders(size: int, data_dir: str) -> Mapping[str, Classes]:
    """Load color images in the folders `train/CLASS`, `val/CLASS` and `test/CLASS`.

    This is the usual form of mini-ImageNet, with 64, 16 and 20 classes of 600 images (Ravi &
    Larochelle 2017). Images are cropped to a square, resized and held in memory: 1.3 GB for
    mini-ImageNet at 84 x 84.

    Args:
        size: P, height and width of an image.
        data_dir: the directory of these folders, or a zip archive of it.

    Raises:
        UserError: if a folder is missing, or an image cannot be read.
    """
    tree = open_tree(Path(data_dir).expanduser())
    files: dict[str, dict[str, list[str]]] = {split: {} for split in SPLIT_FOLDERS}
    for name in tree.names():
        *_, folder, label, _ = ("", "", *name.split("/"))
        split = next((x for x, names in SPLIT_FOLDERS.items() if folder.lower() in names), None)
        if split and name.lower().endswith(EXTENSIONS):
            files[split].setdefault(label, []).append(name)
    for split, names in SPLIT_FOLDERS.items():
        if not files[split]:
            raise UserError(
                f"data.data_dir={data_dir!r} has no images {names[0]}/CLASS/x.jpg: choose a "
                "directory with the folders train, val and test, each with a folder per class."
            )

    def read(name):
        return crop_and_resize(read_image(tree.root / name, 3, tree.read(name)), size)

    with ThreadPoolExecutor() as pool:
        return {
            split: [np.array(list(pool.map(read, names))) for _, names in sorted(classes.items())]
            for split, classes in files.items()
        }


def prepared_omniglot(size: int, data_dir: str) -> Mapping[str, Classes]:
    """Load Omniglot, with each character rotated by 0, 90, 180 and 270 degrees as four classes.

    The test split is Omniglot's evaluation set, whose alphabets do not occur in the training set
    (Lake et al. 2015). The papers instead split the 1,623 characters at random. Characters are
    ordered by alphabet; dev has the last characters of the training set instead of a random sample,
    so that its alphabets, except for one, do not occur in the training split either.
    """
    import tensorflow_datasets  # slow to import, and not needed for other sources

    try:
        builder = tensorflow_datasets.builder(
            "omniglot", data_dir=os.path.expanduser(data_dir) or None, try_gcs=False
        )
        records = {split: builder.as_data_source(split=split) for split in ("train", "test")}
    except Exception as error:  # not found, prepared in another format: many types
        raise UserError(
            f"Omniglot is not prepared in data.data_dir={data_dir!r}: prepare it once with "
            f"`python -m tasks.prepare omniglot --data_dir={data_dir or 'DIR'}`."
        ) from error
    classes: dict[str, Classes] = {}
    for split, data_source in records.items():
        characters: dict[int, list[np.ndarray]] = {}
        for record in data_source:
            image = image_from_array(record["image"], channels=1).resize((size, size))
            ink = 255 - np.asarray(image)[..., None]
            characters.setdefault(int(record["label"]), []).append(ink)
        classes[split] = omniglot.rotate([np.array(characters[n]) for n in sorted(characters)])
    train = classes["train"]
    held_out = ROTATIONS * min(DEV_CHARACTERS, len(train) // 8)
    return classes | {"train": train[:-held_out], "dev": train[-held_out:]}
