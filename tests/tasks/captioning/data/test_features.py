"""Features that are computed once and kept in files."""

import dataclasses

import numpy as np
import pytest
from PIL import Image

from tasks.captioning.data import features
from tasks.captioning.data.features import Encoder, open_features, vgg_encoder
from tasks.captioning.data.image_files import ImageFiles, resize_and_crop
from training.errors import UserError

COUNT = 5


class CountingEncoder:
    """Annotations that are the pixels themselves; `encoded` counts the images."""

    def __init__(self, limit=100):
        self.loads, self.encoded, self.limit = 0, 0, limit

    def __call__(self, images):
        self.encoded += len({image.tobytes() for image in images})
        if self.encoded > self.limit:
            raise KeyboardInterrupt
        return images.reshape(len(images), -1, 3).astype(np.float32)

    @property
    def encoder(self):
        def load():
            self.loads += 1
            return self

        return Encoder("pixels", load)


@pytest.fixture
def files(tmp_path):
    rng = np.random.default_rng(0)
    paths = [tmp_path / f"{n}.png" for n in range(COUNT)]
    for path in paths:
        Image.fromarray(rng.integers(0, 256, (8, 12, 3), np.uint8)).save(path)
    return ImageFiles(paths, resolution=7)


@pytest.fixture(autouse=True)
def small_files(monkeypatch):
    monkeypatch.setattr(features, "IMAGES_PER_FILE", 2)
    monkeypatch.setattr(features, "BATCH", 4)


def assert_are_pixels(opened, files):
    order = np.array([3, 0, 4, 0])
    np.testing.assert_array_equal(opened[order], files[order].reshape(4, -1, 3))
    assert len(opened) == COUNT


def test_features_are_computed_once(files, tmp_path):
    counting = CountingEncoder()
    for _ in range(2):
        assert_are_pixels(open_features(files, counting.encoder, tmp_path / "f"), files)
    assert (counting.loads, counting.encoded) == (1, COUNT)


def test_interrupted_computation_is_continued(files, tmp_path):
    with pytest.raises(KeyboardInterrupt):
        open_features(files, CountingEncoder(limit=2).encoder, tmp_path / "f")
    [directory] = (tmp_path / "f").iterdir()
    assert [path.name for path in directory.iterdir()] == ["000000-000002.array_record"]
    counting = CountingEncoder()
    assert_are_pixels(open_features(files, counting.encoder, tmp_path / "f"), files)
    assert counting.encoded == COUNT - 2


def test_truncated_file_is_computed_again(files, tmp_path):
    opened = open_features(files, CountingEncoder().encoder, tmp_path / "f")
    path = opened.directory / "000002-000004.array_record"
    path.write_bytes(path.read_bytes()[:-100])
    counting = CountingEncoder()
    assert_are_pixels(open_features(files, counting.encoder, tmp_path / "f"), files)
    assert counting.encoded == 2


def test_files_with_other_images_are_not_read(files, tmp_path, monkeypatch):
    """With 3 instead of 2 images, the second of the files has as many images as before."""
    open_features(files, CountingEncoder().encoder, tmp_path / "f")
    monkeypatch.setattr(features, "IMAGES_PER_FILE", 3)
    assert_are_pixels(open_features(files, CountingEncoder().encoder, tmp_path / "f"), files)


def test_damaged_file_is_an_error(files, tmp_path):
    opened = open_features(files, CountingEncoder().encoder, tmp_path / "f")
    path = opened.directory / "000002-000004.array_record"
    content = bytearray(path.read_bytes())
    content[100:200] = bytes(255 - x for x in content[100:200])  # of the first record
    path.write_bytes(content)
    reopened = open_features(files, CountingEncoder().encoder, tmp_path / "f")
    with pytest.raises(UserError, match=r"features in .* are damaged .*: delete the directory"):
        reopened[np.arange(COUNT)]


def test_other_images_or_encoder_have_their_own_features(files, tmp_path):
    counting = CountingEncoder()
    encoder = counting.encoder
    other = encoder._replace(fingerprint="other")
    small = dataclasses.replace(files, resolution=5)
    swapped = dataclasses.replace(files, paths=files.paths[::-1])
    cases = [(files, encoder), (files, other), (small, encoder), (swapped, encoder)]
    opened = [open_features(*case, tmp_path / "f").directory for case in cases]
    Image.new("RGB", (20, 20)).save(files.paths[0])
    opened.append(open_features(files, encoder, tmp_path / "f").directory)
    assert len(set(opened)) == counting.loads == 5


def test_unreadable_image_is_an_error(files, tmp_path):
    files.paths[1].write_bytes(b"no image")
    with pytest.raises(UserError, match=f"{files.paths[1]} is not a readable image"):
        open_features(files, CountingEncoder().encoder, tmp_path / "f")


def test_weights_of_vgg_are_checked_before_images_are_read(files, tmp_path, monkeypatch):
    monkeypatch.setattr(ImageFiles, "__getitem__", lambda *_: pytest.fail("an image was read"))
    with pytest.raises(UserError, match=r"data.vgg_weights='none' does not exist: download vgg19-"):
        open_features(files, vgg_encoder("none"), tmp_path / "f")
    (tmp_path / "vgg.pth").write_bytes(b"other")
    with pytest.raises(UserError, match="its SHA-256 begins with d9298a10: download it from"):
        open_features(files, vgg_encoder(str(tmp_path / "vgg.pth")), tmp_path / "f")


@pytest.mark.parametrize("shape", [(256, 300), (300, 256)])
def test_image_with_the_right_shorter_side_is_cropped_only(shape):
    pixels = np.random.default_rng(0).integers(0, 256, (*shape, 3), np.uint8)
    cropped = resize_and_crop(Image.fromarray(pixels), 224)
    top, left = ((length - 224) // 2 for length in shape)
    np.testing.assert_array_equal(cropped, pixels[top : top + 224, left : left + 224])


def test_resized_image_keeps_its_proportions():
    """A disk in the center stays a disk, with 8/7 of its share of the width."""
    y, x = np.mgrid[:90, :120]
    disk = ((y - 44.5) ** 2 + (x - 59.5) ** 2 < 30**2) * np.uint8(255)
    cropped = resize_and_crop(Image.fromarray(disk).convert("RGB"), 28)[..., 0] > 127
    assert cropped.shape == (28, 28)
    diameters = cropped.sum(0).max(), cropped.sum(1).max()
    np.testing.assert_allclose(diameters, 60 * 32 / 90, atol=1.5)
