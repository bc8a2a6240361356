"""Files of folders and zip archives."""

import zipfile

import pytest

from tasks.archives import open_tree
from training.errors import UserError

FILES = {"b/x.txt": b"x", "a.txt": b"long", "b/c/y.txt": b""}
HIDDEN = ("__MACOSX/._a.txt", "b/.DS_Store", ".git/config")


@pytest.fixture(params=["folder", "zip"])
def tree(request, tmp_path):
    if request.param == "folder":
        root = tmp_path / "folder"
        for name, content in FILES.items() | {(name, b"") for name in HIDDEN}:
            (root / name).parent.mkdir(parents=True, exist_ok=True)
            (root / name).write_bytes(content)
        return open_tree(root)
    with zipfile.ZipFile(tmp_path / "archive.zip", "w") as archive:
        archive.mkdir("b")
        for name, content in FILES.items() | {(name, b"") for name in HIDDEN}:
            archive.writestr(name, content)
    return open_tree(tmp_path / "archive.zip")


def test_visible_files_are_listed_in_order_and_read(tree):
    assert tree.names() == sorted(FILES)
    assert {name: tree.read(name) for name in tree.names()} == FILES
    assert {name: tree.size(name) for name in tree.names()} == {
        name: len(content) for name, content in FILES.items()
    }


def test_invalid_paths_are_errors(tmp_path):
    with pytest.raises(UserError, match="x does not exist: choose a folder or a zip archive"):
        open_tree(tmp_path / "x")
    (tmp_path / "x").write_bytes(b"no archive")
    with pytest.raises(UserError, match=r"Cannot read the archive \S+x \(File is not a zip file"):
        open_tree(tmp_path / "x")


def test_damaged_member_of_an_archive_is_an_error(tmp_path):
    path = tmp_path / "x.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("a.txt", b"content")
    path.write_bytes(path.read_bytes().replace(b"content", b"damaged", 1))
    with pytest.raises(UserError, match=r"Cannot read a\.txt in the archive \S+x\.zip \(Bad CRC"):
        open_tree(path).read("a.txt")
