"""Images in a folder or in zip archives of the user."""

import os
import sys
import threading
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import NamedTuple

import numpy as np
from jaxtyping import UInt8

from tasks.archives import FileTree, Folder, open_tree
from tasks.files import digest
from tasks.image_generation.data.decoded import DecodedImages
from tasks.images import EXTENSIONS, DamagedImageError, check_files, crop_and_resize, read_image
from tasks.subsets import fixed_permutation
from training.errors import UserError

SPLIT_NAMES = {"train", "test", "val", "valid", "validation", "dev"}
TEST_EVERY = 5  # folders without a test split hold out every fifth image


class Files(NamedTuple):
    """Image files of a split.

    Attributes:
        tree: folder or archive that contains them.
        prefix: start of their names in `tree`, before the class folders.
        names: their names in `tree`.
    """

    tree: FileTree
    prefix: str
    names: Sequence[str]

    def class_name(self, name: str) -> str:
        """Name of the folder directly below `prefix` that contains an image, or ''."""
        folder, separator, _ = name.removeprefix(self.prefix).partition("/")
        return folder if separator else ""


class ImageFiles:
    """Images that are read from files.

    A file whose header is readable and whose pixels are damaged is left out: the next undamaged
    image takes its place. Which images are left out depends on the files only, so a resumed run
    sees the same images.

    Args:
        files: image files.
        labels: class of each file.
        classes: names of the classes.
        resolution: R.
        channels: C.
    """

    def __init__(
        self,
        files: Files,
        labels: Sequence[int],
        classes: tuple[str, ...],
        resolution: int,
        channels: int,
    ):
        self.classes = classes
        self._files, self._labels = files, labels
        self._resolution, self._channels = resolution, channels
        self._damaged: set[int] = set()
        self._lock = threading.Lock()  # images are read by several threads

    def __len__(self) -> int:
        return len(self._files.names)

    @property
    def form(self) -> str:
        """Most frequent format of the files, by their suffix."""
        suffixes = Counter(PurePosixPath(name).suffix.lower() for name in self._files.names)
        return f"{suffixes.most_common(1)[0][0]} files"

    def fingerprint(self) -> str:
        """Return a digest of names and sizes of the files; reading all files could take hours."""
        tree, prefix, names = self._files
        return digest(
            os.fsencode(f"{name.removeprefix(prefix)} {tree.size(name)}\n") for name in names
        )

    def check(self) -> None:
        """Read the headers of all files in a folder; raises `UserError` for unreadable files."""
        tree = self._files.tree
        if isinstance(tree, Folder):
            check_files(tree.root, [tree.root / name for name in self._files.names])

    def __getitem__(self, i: int) -> tuple[UInt8[np.ndarray, "R R C"], int]:
        for n in range(i, i + len(self)):
            index = n % len(self)
            if index in self._damaged:
                continue
            try:
                name = self._files.names[index]
                content = self._files.tree.read(name)
                image = read_image(self._files.tree.root / name, self._channels, content)
            except DamagedImageError as error:
                self._leave_out(index, error)
            else:
                return crop_and_resize(image, self._resolution), self._labels[index]
        root = self._files.tree.root
        raise UserError(f"No image of {root} can be decoded: replace the files.")

    def _leave_out(self, index: int, error: DamagedImageError) -> None:
        """Exclude a damaged file, and report it once."""
        with self._lock:
            if index not in self._damaged:
                self._damaged.add(index)
                count = f"{len(self._damaged):,} of {len(self):,} images"
                print(f"note: {error} Left out so far: {count}.", file=sys.stderr)


def folder(resolution: int, channels: int, *, dir: str) -> Mapping[str, ImageFiles | DecodedImages]:
    """Image files below `dir`: `train/CLASS/x.png` and `test/CLASS/y.png`, or without either level.

    Without `train` and `test`, every fifth image in the order of their names is a test image.
    Without class folders, there is one class. Folders may be symbolic links. Hidden files and
    folders are ignored. `dir` may be a zip archive, and may have `train.zip` and `test.zip` instead
    of folders; the images of archives are decoded once, see `DecodedImages`.
    """
    root = Path(dir).expanduser()
    if not (dir and root.exists()):
        raise UserError(f"data.dir={dir!r} is not a directory: choose the image directory.")
    files = _find_splits(root) or _hold_out(root, _list_images(open_tree(root)))
    for split in files.values():
        if not split.names:
            raise UserError(
                f"{split.tree.root / split.prefix} contains no images ({', '.join(EXTENSIONS)}): "
                "add images or change data.dir."
            )
    files = {
        name: split._replace(names=[split.names[i] for i in fixed_permutation(len(split.names))])
        for name, split in files.items()
    }
    labels = {name: [*map(split.class_name, split.names)] for name, split in files.items()}
    classes = tuple(sorted({name for split in labels.values() for name in split}))
    index = {name: n for n, name in enumerate(classes)}
    images: dict[str, ImageFiles | DecodedImages] = {}
    for name, split in files.items():
        numbers = [index[x] for x in labels[name]]
        images[name] = ImageFiles(split, numbers, classes, resolution, channels)
        if not isinstance(split.tree, Folder):
            images[name] = DecodedImages(images[name], (resolution, resolution, channels))
    return images


def _find_splits(root: Path) -> dict[str, Files] | None:
    """Return the images of the splits, if the data has both of them."""
    if not root.is_dir():
        every = _list_images(open_tree(root))
        prefixes = {split: f"{every.prefix}{split}/" for split in ("train", "test")}
        files = {
            split: Files(every.tree, prefix, [x for x in every.names if x.startswith(prefix)])
            for split, prefix in prefixes.items()
        }
        return files if all(split.names for split in files.values()) else None
    found = {}
    for split in ("train", "test"):
        paths = (root / split, root / f"{split}.zip")
        if not (path := next((path for path in paths if path.exists()), None)):
            return None
        found[split] = _list_images(open_tree(path))
    return found


def _list_images(tree: FileTree) -> Files:
    """List the images of a tree; a folder at the top that contains all files is in the prefix."""
    names = [name for name in tree.names() if name.lower().endswith(EXTENSIONS)]
    prefix = ""
    if not isinstance(tree, Folder):
        tops = {name.partition("/")[0] for name in names}
        if len(tops) == 1 and all(name.count("/") > 1 for name in names):
            prefix = f"{tops.pop()}/"
    return Files(tree, prefix, names)


def _hold_out(root: Path, every: Files) -> dict[str, Files]:
    """Split the images of data without splits.

    Raises:
        UserError: if the folders have names of splits, or there are too few images.
    """
    folders = sorted({every.class_name(name) for name in every.names} - {""})
    if folders and {name.lower() for name in folders} <= SPLIT_NAMES:
        raise UserError(
            f"The folders of {root}, {' and '.join(folders)}, have names of splits instead of "
            "classes: rename them to train and test."
        )
    if 0 < len(every.names) < TEST_EVERY:
        raise UserError(
            f"{root} has only {len(every.names)} images: add more, at least {TEST_EVERY} are "
            "needed."
        )
    is_test = lambda i: i % TEST_EVERY == TEST_EVERY - 1
    return {
        name: every._replace(names=[x for i, x in enumerate(every.names) if is_test(i) == held_out])
        for name, held_out in (("train", False), ("test", True))
    }
