"""Listing of dataset files without hidden and system files, and digests of data."""

import contextlib
import hashlib
import os
from collections.abc import Iterable, Iterator
from pathlib import Path

from training.errors import UserError

# Folders of macOS archives, network storage, recycle bins and file systems, and files of Windows.
_SYSTEM_NAMES = {
    "#recycle",
    "#snapshot",
    "$RECYCLE.BIN",
    "@Recently-Snapshot",
    "@Recycle",
    "@eaDir",
    "System Volume Information",
    "Thumbs.db",
    "__MACOSX",
    "desktop.ini",
    "lost+found",
}


def is_hidden(name: str) -> bool:
    """Return whether a file or folder is hidden, or created by an operating system.

    Names that start with a dot are hidden, such as `.ipynb_checkpoints` of Jupyter and `._x.png`,
    which macOS writes beside `x.png` on other file systems.
    """
    return name.startswith(".") or name in _SYSTEM_NAMES


def list_files(directory: Path) -> list[Path]:
    """List the visible files of a directory, by name.

    Raises:
        UserError: if the directory cannot be read.
    """
    with _listing_errors(directory):
        return sorted(x for x in directory.iterdir() if x.is_file() and not is_hidden(x.name))


def walk_files(root: Path) -> Iterator[Path]:
    """Yield the visible files below `root`, in no particular order.

    Symbolic links to folders are followed, except those to a folder that contains the link. A link
    to a missing file is yielded too, so that its reader reports it.

    Raises:
        UserError: if a directory cannot be read.
    """
    return _walk(root, frozenset())


def _walk(directory: Path, ancestors: frozenset[str]) -> Iterator[Path]:
    """Yield the files of a directory; `ancestors` are the resolved paths of its parents."""
    resolved = os.path.realpath(directory)
    if resolved in ancestors:
        return
    with _listing_errors(directory), os.scandir(directory) as entries:
        for entry in entries:
            if is_hidden(entry.name):
                continue
            if entry.is_dir():
                yield from _walk(directory / entry.name, ancestors | {resolved})
            else:
                yield directory / entry.name


def name_and_size(path: Path, root: Path) -> bytes:
    """Return the name of a file relative to `root` and its size, as a part of a digest."""
    return os.fsencode(f"{path.relative_to(root)} {path.stat().st_size}\n")


def digest(parts: Iterable[bytes]) -> str:
    """Return the hex digest of the concatenated parts."""
    hasher = hashlib.blake2b(digest_size=16)
    for part in parts:
        hasher.update(part)
    return hasher.hexdigest()


@contextlib.contextmanager
def _listing_errors(directory: Path) -> Iterator[None]:
    """Convert errors of the file system into a `UserError`."""
    try:
        yield
    except (OSError, ValueError) as error:
        raise UserError(
            f"Cannot read the directory {directory} ({error}): check its path and permissions."
        ) from error


def is_writable(path: Path) -> bool:
    """Return whether a file can be written to `path`, which is no directory or device."""
    return (path.is_file() or not path.exists()) and os.access(path.parent, os.W_OK)
