"""CIFAR-10 in each form in which it is distributed."""

import io
import os
import pickle
import tarfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tasks.image_generation.data.cifar10 import ARCHIVE, BATCHES, CLASSES
from tasks.image_generation.data.sources import load
from training.errors import UserError

CIFAR10 = Path(__file__).parents[5] / "shared/data/cifar10"
COUNT = 3  # images of a batch file


def batch_contents():
    """Return the files of the Python version, with few images, and all images and labels."""
    rng = np.random.default_rng(0)
    contents, images, labels = {}, {}, {}
    for split, names in BATCHES.items():
        images[split] = rng.integers(0, 256, (COUNT * len(names), 32, 32, 3), np.uint8)
        labels[split] = rng.integers(0, 10, COUNT * len(names))
        for n, name in enumerate(names):
            part = slice(COUNT * n, COUNT * (n + 1))
            data = images[split][part].transpose(0, 3, 1, 2).reshape(COUNT, -1)
            # As written by Python 2: the keys are bytes.
            content = {b"data": data, b"labels": labels[split][part].tolist()}
            contents[name] = pickle.dumps(content, protocol=2)
    return contents, images, labels


def write_archive(directory, contents):
    with tarfile.open(directory / ARCHIVE, "w:gz") as archive:
        for name, content in contents.items():
            info = tarfile.TarInfo(f"cifar-10-batches-py/{name}")
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))


@pytest.mark.parametrize("form", ["archive", "unpacked"])
def test_python_version_is_read(form, tmp_path):
    contents, images, labels = batch_contents()
    write_archive(tmp_path, contents)
    if form == "unpacked":
        with tarfile.open(tmp_path / ARCHIVE) as archive:
            archive.extractall(tmp_path, filter="data")
        (tmp_path / ARCHIVE).unlink()
    splits = load("cifar10", 32, 3, dir=str(tmp_path))
    for split, opened in splits.items():
        np.testing.assert_array_equal(opened.images, images[split])
        np.testing.assert_array_equal(opened.labels, labels[split])
        assert opened.classes == CLASSES
    gray = load("cifar10", 16, 1, dir=str(tmp_path))["test"]
    assert gray.images.shape == (COUNT, 16, 16, 1)


class Malicious:
    def __reduce__(self):
        return os.system, ("touch attacked",)


def test_code_in_a_pickle_is_not_run(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    contents = batch_contents()[0] | {"test_batch": pickle.dumps(Malicious(), protocol=2)}
    write_archive(tmp_path, contents)
    with pytest.raises(UserError, match=r"it contains posix\.system\): download it again"):
        load("cifar10", 32, 3, dir=str(tmp_path))
    assert not (tmp_path / "attacked").exists()


def test_damaged_or_missing_data_is_an_error(tmp_path):
    for missing in ("", str(tmp_path), str(tmp_path / "x")):
        with pytest.raises(UserError, match=r"CIFAR-10 is not in data\.dir='.*': download cifar"):
            load("cifar10", 32, 3, dir=missing)
    (tmp_path / ARCHIVE).write_bytes(b"no archive")
    with pytest.raises(UserError, match=r"gz is not the Python version of CIFAR-10 \(.*\): downl"):
        load("cifar10", 32, 3, dir=str(tmp_path))
    (tmp_path / ARCHIVE).unlink()
    (tmp_path / "cifar10").mkdir()
    with pytest.raises(UserError, match="cifar10 is not prepared"):
        len(load("cifar10", 32, 3, dir=str(tmp_path))["train"])


def test_class_folders_are_read(tmp_path):
    for split in BATCHES:
        for n, name in enumerate(CLASSES):
            path = tmp_path / split / name / "0.jpg"
            path.parent.mkdir(parents=True)
            Image.fromarray(np.full((32, 32, 3), 20 * n, np.uint8)).save(path, quality=100)
    train = load("cifar10", 32, 3, dir=str(tmp_path))["train"]
    assert train.classes == CLASSES and train.form == ".jpg files"
    values = sorted((round(x.mean() / 20), label) for x, label in (train[i] for i in range(10)))
    assert values == [(n, n) for n in range(10)]


@pytest.mark.skipif(not CIFAR10.is_dir(), reason="CIFAR-10 is not beside the repository")
def test_zip_archives_of_class_folders_are_complete():
    splits = load("cifar10", 32, 3, dir=str(CIFAR10))
    assert {name: len(images) for name, images in splits.items()} == {
        "train": 50_000,
        "test": 10_000,
    }
    assert splits["train"].classes == CLASSES
