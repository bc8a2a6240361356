"""Datasets in the form of Karpathy's files, with images or with features."""

import json
from functools import partial

import numpy as np
import pytest

from tasks.captioning.data import karpathy
from tasks.captioning.data.features import Encoder
from tests.tasks.captioning.data.karpathy_files import CAPTIONS, write_dataset
from training.errors import UserError


def mean_colors(images):
    """Four annotations of width 3: the mean color of each quarter of an image."""
    quarters = images.reshape(len(images), 2, 8, 2, 8, 3).mean((2, 4))
    return quarters.reshape(len(images), 4, 3).astype(np.float32)


def test_splits_have_their_images_and_captions(tmp_path):
    splits = karpathy.load(
        "flickr8k", dir=str(write_dataset(tmp_path)), resolution=16, vgg_weights=""
    )
    assert {name: len(images) for name, images in splits.items()} == {
        "train": 6,
        "dev": 2,
        "test": 3,
    }
    assert splits["dev"].captions[1] == tuple(f"{caption} 7" for caption in CAPTIONS)
    assert splits["dev"].grounding is None
    batch = splits["test"].inputs[np.array([2, 0])]
    assert batch.shape == (2, 16, 16, 3) and batch.dtype == np.uint8
    np.testing.assert_array_equal(batch[0], splits["test"].pixels[2])
    assert (batch[0] != batch[1]).any()


def test_restval_of_coco_is_training_data(tmp_path):
    write_dataset(tmp_path, "coco", ("train", "val", "restval", "test"))
    splits = karpathy.load("coco", dir=str(tmp_path), resolution=16, vgg_weights="")
    assert [len(splits[name]) for name in ("train", "dev", "test")] == [2, 1, 1]
    assert splits["train"].captions[1][0] == "a dog runs 2"


def test_images_may_have_different_numbers_of_captions(tmp_path):
    path = write_dataset(tmp_path) / "dataset_flickr8k.json"
    content = json.loads(path.read_text())
    content["images"][0]["sentences"][2:] = [{"tokens": []}]
    path.write_text(json.dumps(content))
    splits = karpathy.load("flickr8k", dir=str(tmp_path), resolution=16, vgg_weights="")
    assert splits["train"].captions[0] == ("a dog runs 0", "a brown dog 0")


def test_features_of_a_split_belong_to_its_images(tmp_path):
    encoder = Encoder("mean colors", lambda: mean_colors)
    splits = karpathy.open_splits("flickr8k", str(write_dataset(tmp_path)), 16, encoder)
    for images in splits.values():
        indices = np.arange(len(images))[::-1]
        expected = mean_colors(images.pixels[indices])
        features = images.inputs[indices]
        assert features.dtype == np.float16
        np.testing.assert_allclose(features, expected, rtol=1e-3)
        assert len(images.inputs) == len(images)


def without_json(directory):
    (directory / "dataset_flickr8k.json").unlink()


def without_images(directory):
    for n in (3, 5):
        (directory / "Flicker8k_Dataset" / f"00{n}.png").unlink()


def with_truncated_json(directory):
    path = directory / "dataset_flickr8k.json"
    path.write_text(path.read_text()[:-5])


def with_unknown_split(directory):
    path = directory / "dataset_flickr8k.json"
    path.write_text(path.read_text().replace('"val"', '"validation"'))


def without_test_split(directory):
    path = directory / "dataset_flickr8k.json"
    path.write_text(path.read_text().replace('"test"', '"train"'))


def without_captions_of_a_dev_image(directory):
    path = directory / "dataset_flickr8k.json"
    content = json.loads(path.read_text())
    content["images"][7]["sentences"] = [{"tokens": [" "]}]
    path.write_text(json.dumps(content))


def with_unreadable_image(directory):
    (directory / "Flicker8k_Dataset" / "003.png").write_bytes(b"no image")


@pytest.mark.parametrize(
    "damage, message",
    [
        (
            without_json,
            r"has no dataset_flickr8k.json: choose .*caption_datasets.zip and the images from",
        ),
        (without_images, r"2 of 11 images do not exist, such as .*003.png: unpack the images"),
        (with_truncated_json, r"not a list of captions of Karpathy \(JSONDecodeError"),
        (with_unknown_split, r"not a list of captions of Karpathy \(KeyError: 'validation'"),
        (without_test_split, r"has no images of the split test: unpack"),
        (without_captions_of_a_dev_image, r"image 007.png of the split dev has no captions: "),
        (with_unreadable_image, r"003\.png is not a readable image"),
    ],
)
def test_incomplete_dataset_is_an_error(damage, message, tmp_path):
    damage(write_dataset(tmp_path))
    with pytest.raises(UserError, match=message):
        karpathy.load("flickr8k", dir=str(tmp_path), resolution=16, vgg_weights="")


def test_summary_identifies_captions_and_images(tmp_path):
    write_dataset(tmp_path)
    path = tmp_path / "dataset_flickr8k.json"
    load = partial(karpathy.open_splits, "flickr8k", str(tmp_path), 8, None)
    original = {split: images.summary for split, images in load().items()}
    assert original["train"].startswith("6 images (digest ")
    content = path.read_text()
    path.write_text(content.replace('"brown"', '"black"', 1))
    assert load()["train"].summary != original["train"]
    assert load()["dev"].summary == original["dev"]
    path.write_text(content)
    image = tmp_path / "Flicker8k_Dataset" / "007.png"
    image.write_bytes(image.read_bytes() + b"more")
    assert load()["dev"].summary != original["dev"]
