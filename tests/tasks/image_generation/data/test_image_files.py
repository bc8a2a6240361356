"""Tests of `tasks.image_generation.data.image_files` and of the cache of checked files."""

import os
import shutil

import numpy as np
import pytest
from PIL import Image

from tasks import images as images_module
from tasks.image_generation.data.batching import RandomBatches, sequential_batches
from tasks.image_generation.data.sources import load
from training.errors import UserError


@pytest.fixture(autouse=True)
def cache(tmp_path_factory, monkeypatch):
    """Cache of checked files."""
    directory = tmp_path_factory.mktemp("cache")
    monkeypatch.setattr(images_module, "CHECKED_DIR", directory, raising=False)
    return directory


def write_image(path, value):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.full((9, 16, 3), value, np.uint8)).save(path)


def write_classes(root, sizes):
    """Write images of equal pixels, the index of their class, for each class and its size."""
    for n, (name, size) in enumerate(sizes.items()):
        for i in range(size):
            write_image(root / name / f"{i:03}.png", n)
    return root


def open_folder(root, **changes):
    return load("folder", **{"resolution": 4, "channels": 3, "dir": str(root)} | changes)


def items(images):
    """Return the value of the pixels and the label of each image."""
    return [(int(x[0, 0, 0]), label) for x, label in (images[i] for i in range(len(images)))]


def truncate(path):
    path.write_bytes(path.read_bytes()[:-30])  # within the pixel data


# Listing.


def test_symbolic_links_to_folders_are_followed(tmp_path):
    elsewhere = write_classes(tmp_path / "elsewhere", {"d": 5})
    root = write_classes(tmp_path / "root", {"cat": 5})
    (root / "dog").symlink_to(elsewhere / "d")
    (root / "cat" / "loop").symlink_to(root)
    splits = open_folder(root)
    assert splits["train"].classes == ("cat", "dog")
    assert (len(splits["train"]), len(splits["test"])) == (8, 2)


@pytest.mark.parametrize("prefix", ["", "train/"])
def test_hidden_and_system_files_are_ignored(prefix, tmp_path):
    write_classes(tmp_path / "train", {"cat": 5, "dog": 5})
    write_classes(tmp_path / "test", {"cat": 1, "dog": 1})
    root = tmp_path / "train" if not prefix else tmp_path
    for name in (".ipynb_checkpoints", "__MACOSX", "@eaDir", ".Trash-1000", "lost+found"):
        write_image(root / prefix / name / "x.png", 9)
        write_image(root / prefix / "cat" / name / "x.png", 9)
    write_image(root / prefix / ".x.png", 9)
    (root / prefix / "cat" / "._000.png").write_bytes(b"resource fork")
    (root / prefix / "Thumbs.db").touch()
    splits = open_folder(root)
    assert splits["train"].classes == ("cat", "dog")
    assert {value for split in splits.values() for value, _ in items(split)} == {0, 1}
    assert sum(map(len, splits.values())) == (12 if prefix else 10)


def test_names_of_splits_are_recognized_beside_hidden_folders(tmp_path):
    write_classes(tmp_path, {"train/cat": 5, "val/cat": 5})
    (tmp_path / ".cache").mkdir()
    with pytest.raises(UserError, match=r"train and val, have names of splits"):
        open_folder(tmp_path)


# Order.


def test_first_images_are_a_sample_of_all_classes(tmp_path):
    """In the order of names the first images are of the first classes alone."""
    root = write_classes(tmp_path, {f"class{n}": 20 for n in range(5)})
    train = open_folder(root)["train"]
    first = np.array([label for _, label in items(train)[:32]])
    counts = np.bincount(first, minlength=5)
    assert counts.min() >= 2 and counts.max() <= 12, counts
    assert sorted(items(train)) == [(n, n) for n in range(5) for _ in range(16)]
    assert items(train) == items(open_folder(root)["train"])


# Unreadable files.


def test_unreadable_files_are_found_before_training(tmp_path):
    root = write_classes(tmp_path, {"cat": 10, "dog": 10})
    images = open_folder(root)["train"]
    images.check()
    (root / "cat" / "000.png").write_bytes(b"no image")
    with pytest.raises(UserError, match=r"^\S+cat/000\.png is not a readable image.*replace or re"):
        images.check()
    for n in range(1, 5):
        (root / "dog" / f"00{n}.png").unlink()
    with pytest.raises(
        UserError, match=r"^4 files cannot .* \(\S+/dog/\S+, \S+, \S+, \.\.\.\): re"
    ):
        images.check()


def test_headers_are_read_once_for_each_version_of_a_file(tmp_path, monkeypatch, cache):
    root = write_classes(tmp_path, {"cat": 10, "dog": 10})
    read = []
    check_header = images_module.check_header
    monkeypatch.setattr(
        images_module, "check_header", lambda path: (read.append(path), check_header(path))
    )
    for split in open_folder(root).values():
        split.check()
    assert len(read) == len(set(read)) == 20
    write_image(root / "cat" / "000.png", 200)
    write_image(root / "dog" / "010.png", 1)
    for split in open_folder(root).values():
        split.check()
    assert sorted(read[20:]) == [root / "cat" / "000.png", root / "dog" / "010.png"]
    for path in cache.iterdir():
        path.write_bytes(b"damaged")
    for split in open_folder(root).values():
        split.check()
    assert len(read) == 22 + 21


def test_names_of_files_may_have_any_bytes(tmp_path):
    root = write_classes(tmp_path, {"cat": 10})
    for n, name in enumerate([b"caf\xe9.png", b"a\nb.png", "\u4e2d.png".encode()]):
        (root / "cat" / f"00{n}.png").rename(root / "cat" / os.fsdecode(name))
    images = open_folder(root)["train"]
    images.check()
    assert len(items(images)) == len(images) == 8


def test_cache_is_optional(tmp_path, monkeypatch):
    root = write_classes(tmp_path / "images", {"cat": 10})
    (tmp_path / "file").touch()
    monkeypatch.setattr(images_module, "CHECKED_DIR", tmp_path / "file" / "x", raising=False)
    open_folder(root)["train"].check()


# Damaged pixels.


def test_image_with_damaged_pixels_is_left_out_counted_and_named(tmp_path, capsys):
    root = write_classes(tmp_path, {"cat": 10, "dog": 10})
    damaged = [root / "cat" / "002.png", root / "dog" / "007.png"]
    for path in damaged:
        truncate(path)
    images = open_folder(root)["train"]
    images.check()
    values = items(images)
    assert len(values) == 16 and all(value == label for value, label in values)
    assert values == items(images)
    errors = capsys.readouterr().err.splitlines()
    assert len(errors) == 2 and all(error.startswith("note: ") for error in errors)
    for path in damaged:
        assert sum(f"{path} is not a readable image (" in error for error in errors) == 1
    assert errors[0].endswith("Left out so far: 1 of 16 images.")
    assert errors[1].endswith("Left out so far: 2 of 16 images.")


def test_batches_are_the_same_after_a_resume_in_spite_of_damaged_pixels(tmp_path):
    root = tmp_path
    for n in range(30):
        write_image(root / f"{n:03}.png", n)
    for n in (3, 10, 11, 12, 26):
        truncate(root / f"{n:03}.png")
    batches = RandomBatches(open_folder(root)["train"], 8, seed=3)
    expected = [batches[n]["image"] for n in range(9)]
    resumed = RandomBatches(open_folder(root)["train"], 8, seed=3)
    for n in range(4, 9):
        np.testing.assert_array_equal(resumed[n]["image"], expected[n])
    assert not {3, 10, 11, 12, 26} & {int(x) for batch in expected for x in batch[:, 0, 0, 0]}


def test_folder_without_decodable_images_is_an_error(tmp_path):
    root = write_classes(tmp_path, {"cat": 10})
    for path in (root / "cat").iterdir():
        truncate(path)
    with pytest.raises(UserError, match="No image of .* can be decoded: "):
        next(sequential_batches(open_folder(root)["train"], 4, 4))


def test_file_that_cannot_be_opened_during_training_stops_the_run(tmp_path):
    """The file may be readable after a resume, and leaving it out would make the runs differ."""
    root = write_classes(tmp_path, {"cat": 10})
    images = open_folder(root)["train"]
    for path in (root / "cat").iterdir():
        path.unlink()
    with pytest.raises(UserError, match="Cannot read .*No such file"):
        images[0]


def test_fingerprint_changes_if_images_are_added_removed_renamed_or_replaced(tmp_path):
    root = tmp_path / "images"
    names = [f"{split}/{n % 2}/{n}.png" for split in ("train", "test") for n in range(4)]
    for name in names:
        write_image(root / name, 9)

    def fingerprint():
        return open_folder(root)["train"].fingerprint()

    before = fingerprint()
    changes = {
        "removed": lambda path: path.unlink(),
        "renamed": lambda path: path.rename(path.with_name("x.png")),
        "class": lambda path: path.rename(root / "train/1/0.png"),
        "replaced": lambda path: path.write_bytes(path.read_bytes() + b"0"),
        "added": lambda path: write_image(path.with_name("x.png"), 0),
        "test": lambda path: (root / "test/0/0.png").unlink(),
    }
    changed = set()
    for name, change in changes.items():
        saved = shutil.copytree(root, tmp_path / "saved")
        change(root / "train/0/0.png")
        changed |= {name} if fingerprint() != before else set()
        shutil.rmtree(root)
        root = saved.rename(tmp_path / name)  # so the directory may move
        assert fingerprint() == before
    assert changed == changes.keys() - {"test"}


# Zip archives.


@pytest.fixture
def decoded(tmp_path, monkeypatch):
    """Directory of decoded images."""
    directory = tmp_path / "decoded"
    monkeypatch.setattr("tasks.image_generation.data.decoded.DECODED_DIR", directory)
    return directory


def zip_folder(path, root, base=None):
    """Zip the content of `root`, or its folder `base` with the folder's name."""
    return shutil.make_archive(str(path.with_suffix("")), "zip", root, base)


@pytest.mark.parametrize("form", ["two archives", "one archive", "one archive with a folder"])
def test_zip_archives_are_the_same_data_as_a_folder(form, tmp_path, decoded):
    root = write_classes(tmp_path / "root", {"train/cat": 7, "train/dog": 5, "test/dog": 6})
    expected = open_folder(root)
    if form == "two archives":
        for split in ("train", "test"):  # as in train.zip: train/cat/000.png
            zip_folder(tmp_path / "zips" / f"{split}.zip", root, split)
        opened = open_folder(tmp_path / "zips")
    elif form == "one archive":
        opened = open_folder(zip_folder(tmp_path / "x.zip", root))
    else:
        opened = open_folder(zip_folder(tmp_path / "x.zip", tmp_path, "root"))
    for split, images in expected.items():
        opened[split].check()
        assert opened[split].classes == images.classes == ("cat", "dog")
        assert items(opened[split]) == items(images)
        assert opened[split].fingerprint() == images.fingerprint()
        assert opened[split].form == images.form == ".png files"


def test_images_of_an_archive_are_decoded_once(tmp_path, decoded, monkeypatch):
    root = write_classes(tmp_path / "root", {"cat": 10, "dog": 10})
    archive = zip_folder(tmp_path / "x.zip", root)
    first = open_folder(archive)["train"]
    first.check()
    expected = items(first)
    assert sorted(expected) == [(0, 0)] * 8 + [(1, 1)] * 8
    unreadable = lambda *_: pytest.fail("decoded again")
    with monkeypatch.context() as patch:
        patch.setattr("tasks.image_generation.data.image_files.read_image", unreadable)
        assert items(open_folder(archive)["train"]) == expected
    (file,) = decoded.iterdir()
    file.write_bytes(file.read_bytes()[:-100])
    assert items(open_folder(archive)["train"]) == expected
    assert len(open_folder(archive, resolution=2)["train"][0][0]) == 2
    assert len(list(decoded.iterdir())) == 2


def test_archive_without_images_is_an_error(tmp_path):
    write_image(tmp_path / "root" / "x.png", 0)
    with pytest.raises(UserError, match="has only 1 images: add more, at least 5 are needed"):
        open_folder(zip_folder(tmp_path / "x.zip", tmp_path / "root"))
    (tmp_path / "root" / "x.png").rename(tmp_path / "root" / "x.txt")
    with pytest.raises(UserError, match=r"y\.zip contains no images"):
        open_folder(zip_folder(tmp_path / "y.zip", tmp_path / "root"))


def test_decoded_images_need_a_writable_directory(tmp_path, monkeypatch):
    (tmp_path / "file").touch()
    monkeypatch.setattr("tasks.image_generation.data.decoded.DECODED_DIR", tmp_path / "file" / "x")
    archive = zip_folder(tmp_path / "x.zip", write_classes(tmp_path / "root", {"cat": 10}))
    with pytest.raises(UserError, match="Cannot write the decoded images .* check the permissions"):
        open_folder(archive)["train"].check()
