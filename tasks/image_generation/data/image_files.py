"""Images in a folder of the user."""

import sys
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from jaxtyping import UInt8

from tasks.files import digest, list_folders, name_and_size, walk_files
from tasks.images import EXTENSIONS, DamagedImageError, check_files, crop_and_resize, read_image
from tasks.subsets import fixed_permutation
from training.errors import UserError

SPLIT_NAMES = {"train", "test", "val", "valid", "validation", "dev"}
TEST_EVERY = 5  # folders without a test split hold out every fifth image


class ImageFiles:
    """Images that are read from files.

    A file whose header is readable and whose pixels are damaged is left out: the next undamaged
    image takes its place. Which images are left out depends on the files only, so a resumed run
    sees the same images.

    Args:
        root: directory of the dataset.
        paths: image files below it.
        labels: class of each file.
        classes: names of the classes.
        resolution: R.
        channels: C.
    """

    def __init__(
        self,
        root: Path,
        paths: Sequence[Path],
        labels: Sequence[int],
        classes: tuple[str, ...],
        resolution: int,
        channels: int,
    ):
        self.classes = classes
        self._root, self._paths, self._labels = root, paths, labels
        self._resolution, self._channels = resolution, channels
        self._damaged: set[int] = set()
        self._lock = threading.Lock()  # images are read by several threads

    def __len__(self) -> int:
        return len(self._paths)

    def fingerprint(self) -> str:
        """Return a digest of names and sizes of the files; reading all files could take hours."""
        return digest(name_and_size(path, self._root) for path in self._paths)

    def check(self) -> None:
        """Read the headers of all files; raises `UserError` for unreadable files."""
        check_files(self._root, self._paths)

    def __getitem__(self, i: int) -> tuple[UInt8[np.ndarray, "R R C"], int]:
        for n in range(i, i + len(self)):
            index = n % len(self)
            if index in self._damaged:
                continue
            try:
                image = read_image(self._paths[index], self._channels)
            except DamagedImageError as error:
                self._leave_out(index, error)
            else:
                return crop_and_resize(image, self._resolution), self._labels[index]
        raise UserError(f"No image of {self._root} can be decoded: replace the files.")

    def _leave_out(self, index: int, error: DamagedImageError) -> None:
        """Exclude a damaged file, and report it once."""
        with self._lock:
            if index not in self._damaged:
                self._damaged.add(index)
                count = f"{len(self._damaged):,} of {len(self):,} images"
                print(f"note: {error} Left out so far: {count}.", file=sys.stderr)


def folder(resolution: int, channels: int, *, dir: str) -> Mapping[str, ImageFiles]:
    """Image files below `dir`: `train/CLASS/x.png` and `test/CLASS/y.png`, or without either level.

    Without `train` and `test`, every fifth image in the order of their names is a test image.
    Without class folders, there is one class. Folders may be symbolic links. Hidden files and
    folders are ignored.
    """
    root = Path(dir).expanduser()
    if not (dir and root.is_dir()):
        raise UserError(f"data.dir={dir!r} is not a directory: choose the image directory.")
    has_splits = (root / "train").is_dir() and (root / "test").is_dir()
    folders = [path.name for path in list_folders(root)]
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
    paths = {
        name: [split[i] for i in fixed_permutation(len(split))] for name, split in paths.items()
    }
    names = {name: [_class_name(path, roots[name]) for path in paths[name]] for name in paths}
    classes = tuple(sorted({name for split in names.values() for name in split}))
    index = {name: n for n, name in enumerate(classes)}
    return {
        name: ImageFiles(
            roots[name],
            paths[name],
            [index[x] for x in names[name]],
            classes,
            resolution,
            channels,
        )
        for name in paths
    }


def _image_paths(root: Path) -> list[Path]:
    return sorted(path for path in walk_files(root) if path.suffix.lower() in EXTENSIONS)


def _class_name(path: Path, root: Path) -> str:
    """Name of the folder directly below `root` that contains the image, or '' if none does."""
    parts = path.relative_to(root).parts
    return parts[0] if len(parts) > 1 else ""
