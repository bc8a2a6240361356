"""Omniglot from its official archives (Lake et al. 2015).

The archives are in the folder `python` of https://github.com/brendenlake/omniglot. They are read
without unpacking; a folder with the name and the content of an archive is read too. An archive has
a folder per alphabet, with a folder per character, with one drawing of each of 20 people.
"""

import itertools
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int, UInt8
from PIL import Image
from scipy.spatial.distance import cdist

from tasks.archives import FileTree, open_tree
from tasks.few_shot.episodes import Classes, Episodes
from tasks.few_shot.glyphs import ROTATIONS
from tasks.images import read_image
from training.errors import UserError

SOURCE = "https://github.com/brendenlake/omniglot, folder python"
EVALUATION, RUNS_ARCHIVE = "images_evaluation", "all_runs"
# Archive of the training and dev classes, and of the test classes; by `data.source`. The small
# background sets are evaluated on the one-shot runs only.
ARCHIVES = {
    "omniglot_zips": ("images_background", EVALUATION),
    "omniglot_small1": ("images_background_small1", None),
    "omniglot_small2": ("images_background_small2", None),
}
RUN_WAYS, RUN_ITEMS = 20, 20  # classes of a one-shot run, and drawings to classify
INK = 127  # brightest value of paper in an inverted drawing
DEV_SHARE = 0.1  # minimum share of the characters that the dev alphabets have


def load_classes(source: str, data_dir: str, size: int) -> Mapping[str, Classes]:
    """Load the classes of each split, each character rotated by 0, 90, 180 and 270 degrees.

    The dev classes are the last alphabets of the background set that together have a tenth of its
    characters, so that no dev alphabet occurs in training. The test classes are the evaluation set.

    Args:
        source: key of `ARCHIVES`.
        data_dir: directory of the archives.
        size: P, height and width of an image.

    Raises:
        UserError: if an archive is missing or damaged.
    """
    background, evaluation = ARCHIVES[source]
    alphabets = _read_alphabets(_open(data_dir, background), size)
    total = sum(map(len, alphabets.values()))
    names, held_out = sorted(alphabets), 0
    dev: list[str] = []
    while held_out < DEV_SHARE * total:
        dev.insert(0, names.pop())
        held_out += len(alphabets[dev[0]])
    if not names:
        raise UserError(
            f"{background} in data.data_dir={data_dir!r} has {len(dev)} alphabets, but at least 2 "
            f"are needed for training and dev: download it again from {SOURCE}."
        )
    splits = {
        "train": [characters for name in names for characters in alphabets[name]],
        "dev": [characters for name in dev for characters in alphabets[name]],
    }
    if evaluation:
        test = _read_alphabets(_open(data_dir, evaluation), size)
        splits["test"] = [characters for name in sorted(test) for characters in test[name]]
    return {split: rotate(characters) for split, characters in splits.items()}


def rotate(characters: Classes) -> Classes:
    """Return four classes per character, its rotations by multiples of 90 degrees."""
    return [
        np.ascontiguousarray(np.rot90(images, rotation, axes=(1, 2)))
        for images in characters
        for rotation in range(ROTATIONS)
    ]


class OneShotRuns(NamedTuple):
    """The 20 runs of one-shot classification among 20 characters of an alphabet.

    Each run has a training image of each class, and 20 test images.

    Attributes:
        images: training images and then test images of each run.
        labels: classes of these images.
        ink: rows and columns of the ink of these images, before they were resized.
    """

    images: UInt8[np.ndarray, "R T P P 1"]
    labels: Int[np.ndarray, "R T"]
    ink: list[list[Float[np.ndarray, "_ 2"]]]

    def episodes(self) -> Episodes:
        """Return the runs as episodes."""
        return Episodes(self.images, *np.split(self.labels, [RUN_WAYS], axis=1))


def load_runs(data_dir: str, size: int) -> OneShotRuns | None:
    """Load the official one-shot runs, or return None if their archive is not in the directory.

    Raises:
        UserError: if the archive is damaged.
    """
    if _find(data_dir, RUNS_ARCHIVE) is None:
        return None
    tree = _open(data_dir, RUNS_ARCHIVE)
    names = tree.names()
    runs = sorted(name for name in names if name.endswith("class_labels.txt"))
    images, labels, ink = [], [], []
    for run in runs:
        # Lines such as 'run01/test/item01.png run01/training/class08.png'.
        text = tree.read(run).decode(errors="replace")
        pairs = [line.split() for line in text.splitlines() if line.strip()]
        prefix = run.removesuffix("class_labels.txt").removesuffix("/").rpartition("/")[0]
        prefix += "/" * bool(prefix)
        classes = sorted({pair[-1] for pair in pairs})
        files = [prefix + name for name in (*classes, *(pair[0] for pair in pairs))]
        if (
            any(len(pair) != 2 for pair in pairs)
            or (len(classes), len(pairs)) != (RUN_WAYS, RUN_ITEMS)
            or not set(files) <= set(names)
        ):
            raise UserError(
                f"{tree.root}: {run} does not list {RUN_ITEMS} drawings of {RUN_WAYS} classes "
                f"whose images are in the archive: download it again from {SOURCE}."
            )
        drawings = [_read_ink(tree, name) for name in files]
        ink.append([np.argwhere(drawing > INK).astype(np.float64) for drawing in drawings])
        for name, points in zip(files, ink[-1], strict=True):
            if not len(points):
                raise UserError(
                    f"{tree.root}: {name} is blank: download the archive again from {SOURCE}."
                )
        images.append([_resize(drawing, size) for drawing in drawings])
        labels.append([*range(RUN_WAYS), *(classes.index(pair[1]) for pair in pairs)])
    if not runs:
        raise UserError(f"{tree.root} has no one-shot runs: download it again from {SOURCE}.")
    return OneShotRuns(np.array(images)[..., None], np.array(labels, np.int32), ink)


def hausdorff_errors(runs: OneShotRuns) -> Float[np.ndarray, "R Q"]:
    """Return 1 for each wrong label of the nearest training image by modified Hausdorff distance.

    This is the baseline that the authors distribute with the runs (Dubuisson & Jain 1994): the
    larger of the two mean distances from the ink of one drawing to the nearest ink of the other,
    after centering both.
    """
    errors = []
    for drawings, labels in zip(runs.ink, runs.labels, strict=True):
        centered = [ink - ink.mean(0) for ink in drawings]
        for query, label in zip(centered[RUN_WAYS:], labels[RUN_WAYS:], strict=True):
            pairwise = (cdist(query, ink) for ink in centered[:RUN_WAYS])
            distances = [max(x.min(0).mean(), x.min(1).mean()) for x in pairwise]
            errors.append(float(np.argmin(distances) != label))
    return np.reshape(errors, (len(runs.ink), -1))


def _find(data_dir: str, name: str) -> Path | None:
    """Return the path of an archive, or of the folder with its content, if it exists."""
    directory = Path(data_dir).expanduser()
    candidates = (directory / f"{name}.zip", directory / name)
    return next((path for path in candidates if path.exists()), None) if data_dir else None


def _open(data_dir: str, name: str) -> FileTree:
    path = _find(data_dir, name)
    if path is None:
        raise UserError(
            f"{name}.zip is not in data.data_dir={data_dir!r}: download it from {SOURCE}, and set "
            "--config.data.data_dir to its folder."
        )
    return open_tree(path)


def _read_alphabets(tree: FileTree, size: int) -> dict[str, Classes]:
    """Read the drawings `ALPHABET/CHARACTER/x.png` of each character, by alphabet."""
    alphabets: dict[str, Classes] = {}
    names = (name for name in tree.names() if name.endswith(".png") and name.count("/") > 1)
    for folder, files in itertools.groupby(names, key=lambda name: name.rpartition("/")[0]):
        alphabet = folder.split("/")[-2]
        images = np.array([_resize(_read_ink(tree, name), size) for name in files])
        alphabets.setdefault(alphabet, []).append(images[..., None])
    if not alphabets:
        raise UserError(
            f"{tree.root} has no drawings ALPHABET/CHARACTER/x.png: download it again from "
            f"{SOURCE}."
        )
    return alphabets


def _read_ink(tree: FileTree, name: str) -> UInt8[np.ndarray, "Y X"]:
    """Read a drawing; ink is 255."""
    return 255 - np.asarray(read_image(tree.root / name, 1, tree.read(name)))


def _resize(ink: UInt8[np.ndarray, "Y X"], size: int) -> UInt8[np.ndarray, "P P"]:
    return np.asarray(Image.fromarray(ink).resize((size, size)))
