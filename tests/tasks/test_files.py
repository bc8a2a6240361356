"""Tests of `tasks.files`."""

import os
from pathlib import Path

import pytest

from tasks import files
from tasks.files import list_files, walk_files
from training.errors import UserError


def test_hidden_and_system_files_are_not_listed(tmp_path):
    for name in ("b.png", "a.png", ".c.png", "._a.png", "Thumbs.db", "desktop.ini"):
        (tmp_path / name).touch()
    for name in ("cat", "@home", "_x", ".cache", "__MACOSX", "@eaDir"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "x.png").touch()
    assert [path.name for path in list_files(tmp_path)] == ["a.png", "b.png"]
    found = {str(path.relative_to(tmp_path)) for path in walk_files(tmp_path)}
    assert found == {"a.png", "b.png", "cat/x.png", "@home/x.png", "_x/x.png"}


def test_walk_follows_links_and_ends_at_cycles(tmp_path):
    for name in ("data/a", "other/b"):
        (tmp_path / name).mkdir(parents=True)
        (tmp_path / name / "x").touch()
    root = tmp_path / "data"
    (root / "first").symlink_to(tmp_path / "other")
    (root / "second").symlink_to(tmp_path / "other" / "b")
    (tmp_path / "other" / "b" / "up").symlink_to(root)
    (root / "missing").symlink_to(tmp_path / "nowhere")
    found = sorted(str(path.relative_to(root)) for path in walk_files(root))
    assert found == ["a/x", "first/b/x", "missing", "second/x"]


@pytest.mark.skipif(os.geteuid() == 0, reason="the superuser reads every directory")
def test_directory_without_permission_is_an_error(tmp_path):
    (tmp_path / "closed").mkdir(mode=0)
    with pytest.raises(UserError, match="Cannot read the directory .*closed"):
        list(walk_files(tmp_path))


def test_missing_directory_is_an_error(tmp_path):
    for listing in (list_files, walk_files):
        with pytest.raises(UserError, match=r"Cannot read the directory .*missing"):
            list(listing(tmp_path / "missing"))


def test_devices_and_directories_are_not_writable_as_files(tmp_path):
    """Writing replaces the file, so that `/dev/null` would become a regular file."""
    (tmp_path / "file").touch()
    found = [files.is_writable(path) for path in (Path("/dev/null"), tmp_path)]
    found += [files.is_writable(tmp_path / name) for name in ("file", "new")]
    assert found == [False, False, True, True]
