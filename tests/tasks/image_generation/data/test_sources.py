"""Tests of `tasks.image_generation.data.sources`."""

import numpy as np
import pytest
from PIL import Image

from tasks.image_generation.data.sources import InMemoryImages, load
from tasks.image_generation.data.tfds import TfdsImages
from training.errors import UserError


def test_digits_are_complete_and_splits_are_disjoint():
    splits = load("digits", 8, 1)
    assert len(splits["train"]) + len(splits["test"]) == 1797
    assert splits["train"].images.shape[1:] == (8, 8, 1)
    pixels = np.concatenate([split.images.reshape(len(split), -1) for split in splits.values()])
    assert len(np.unique(pixels, axis=0)) > 1790
    counts = np.bincount(splits["train"].labels)
    assert len(counts) == 10 and counts.min() > 120


def write_image(folder, name, value):
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.full((5, 9, 3), value, np.uint8)).save(path)


def test_subfolders_are_splits_and_classes(tmp_path):
    for name, value in {"train/cat/a.png": 1, "train/dog/b.png": 2, "test/dog/c.png": 3}.items():
        write_image(tmp_path, name, value)
    splits = load("folder", 4, 3, dir=str(tmp_path))
    assert splits["train"].classes == ("cat", "dog")
    items = [(int(x.mean()), label) for x, label in (splits["train"][0], splits["train"][1])]
    assert sorted(items) == [(1, 0), (2, 1)]
    pixels, label = splits["test"][0]
    assert pixels.shape == (4, 4, 3) and (int(pixels.mean()), label) == (3, 1)


def test_folder_without_splits_holds_out_every_fifth_image(tmp_path):
    for n in range(10):
        write_image(tmp_path, f"{n}.png", n)
    splits = load("folder", 4, 1, dir=str(tmp_path))
    assert {int(splits["test"][i][0].mean()) for i in range(2)} == {4, 9}
    assert len(splits["train"]) == 8 and splits["train"].classes == ("",)


@pytest.mark.parametrize("held_out", ["val", "Test", None])
def test_folders_with_names_of_splits_are_not_classes(held_out, tmp_path):
    for split in filter(None, ("train", held_out)):
        for n in range(5):
            write_image(tmp_path, f"{split}/cat/{n}.png", n)
    with pytest.raises(UserError, match="have names of splits instead of classes"):
        load("folder", 4, 3, dir=str(tmp_path))


def test_dataset_of_tensorflow_datasets_is_in_random_order():
    """Some datasets are not shuffled when they are prepared."""
    records = [{"image": np.full((4, 4, 1), n, np.uint8), "label": n // 20} for n in range(100)]
    images = TfdsImages(lambda: records, tuple("abcde"), 4, 1)
    images.check()
    items = [(int(x.mean()), label) for x, label in (images[i] for i in range(100))]
    assert sorted(items) == [(n, n // 20) for n in range(100)]
    assert np.bincount([label for _, label in items[:32]], minlength=5).min() > 2


def test_16_bit_images_of_tensorflow_datasets_are_scaled():
    records = [{"image": np.full((4, 4, 3), 257 * 100, np.uint16)}]
    pixels, label = TfdsImages(lambda: records, ("",), 4, 3)[0]
    assert (pixels == 100).all() and label == 0


def test_invalid_data_is_rejected(tmp_path):
    with pytest.raises(UserError, match="contains no images"):
        load("folder", 4, 3, dir=str(tmp_path))
    for missing in ("", str(tmp_path / "missing")):
        with pytest.raises(UserError, match=f"data.dir='{missing}' is not a directory"):
            load("folder", 4, 3, dir=missing)
    for n in range(4):
        write_image(tmp_path, f"{n}.png", n)
    with pytest.raises(UserError, match="has only 4 images: add more, at least 5 are needed"):
        load("folder", 4, 3, dir=str(tmp_path))
    write_image(tmp_path, "4.png", 4)
    (tmp_path / "0.png").write_bytes(b"no image")
    with pytest.raises(UserError, match=r"0\.png is not a readable image"):
        load("folder", 4, 3, dir=str(tmp_path))["train"].check()
    options = {"dataset": "cifar10", "data_dir": str(tmp_path), "test_split": "test"}
    with pytest.raises(UserError, match="not prepared in data.data_dir"):
        len(load("tfds", 4, 3, **options)["train"])


def test_fingerprint_of_images_in_memory_changes_with_a_pixel_or_label():
    images, labels = np.zeros((2, 3, 3, 1), np.uint8), np.arange(2)
    before = InMemoryImages(images.copy(), labels, ("a", "b")).fingerprint()
    assert InMemoryImages(images, labels, ("a", "b")).fingerprint() == before
    assert InMemoryImages(images, labels[::-1], ("a", "b")).fingerprint() != before
    images[1, 2, 2] = 1
    assert InMemoryImages(images, labels, ("a", "b")).fingerprint() != before
