"""Files below a folder or inside a zip archive, by their relative paths.

Both kinds have the same methods, so that datasets are read in the form in which they are
distributed. Hidden files and files of operating systems are left out.
"""

import zipfile
from pathlib import Path, PurePosixPath
from typing import Protocol, runtime_checkable

from tasks.files import is_hidden, walk_files
from training.errors import UserError, first_line


@runtime_checkable
class FileTree(Protocol):
    """Files by name, their path relative to the root with `/` as separator."""

    root: Path  # the folder or the archive

    def names(self) -> list[str]:
        """Return the names of all visible files, in alphabetical order."""
        ...

    def size(self, name: str) -> int:
        """Return the size of a file in bytes."""
        ...

    def read(self, name: str) -> bytes:
        """Read a file; raises `UserError` if this fails."""
        ...


class Folder:
    """Files below a folder; see `tasks.files.walk_files`."""

    def __init__(self, root: Path):
        self.root = root

    def names(self) -> list[str]:
        return sorted(path.relative_to(self.root).as_posix() for path in walk_files(self.root))

    def size(self, name: str) -> int:
        return (self.root / name).stat().st_size

    def read(self, name: str) -> bytes:
        try:
            return (self.root / name).read_bytes()
        except OSError as error:
            raise UserError(
                f"Cannot read {self.root / name} ({error.strerror}): restore or remove it."
            ) from error


class ZipArchive:
    """Files inside a zip archive, which may be read by several threads.

    Raises:
        UserError: if the archive cannot be read.
    """

    def __init__(self, root: Path):
        self.root = root
        try:
            self._zip = zipfile.ZipFile(root)
        except (OSError, zipfile.BadZipFile) as error:
            raise UserError(
                f"Cannot read the archive {root} ({first_line(error)}): download it again."
            ) from error

    def names(self) -> list[str]:
        names = (info.filename for info in self._zip.infolist() if not info.is_dir())
        return sorted(name for name in names if not any(map(is_hidden, PurePosixPath(name).parts)))

    def size(self, name: str) -> int:
        return self._zip.getinfo(name).file_size

    def read(self, name: str) -> bytes:
        try:
            return self._zip.read(name)
        except Exception as error:  # damaged, encrypted, or of another compression: many types
            raise UserError(
                f"Cannot read {name} in the archive {self.root} ({first_line(error)}): download "
                "the archive again, without a password."
            ) from error


def open_tree(path: Path) -> FileTree:
    """Open a folder, or a zip archive.

    Raises:
        UserError: if the path is neither of them.
    """
    if path.is_dir():
        return Folder(path)
    if path.is_file():
        return ZipArchive(path)
    raise UserError(f"{path} does not exist: choose a folder or a zip archive.")
