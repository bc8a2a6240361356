"""Tests of `tasks.image_generation.feature_extractors`."""

import numpy as np
import pytest

from tasks.image_generation import feature_extractors
from tasks.image_generation.data.augment import Augmentation
from tasks.image_generation.data.sources import InMemoryImages
from tasks.image_generation.feature_extractors import (
    CLASSIFIER_FILE,
    load_classifier,
    load_inception,
)
from training.errors import UserError


def test_only_the_standard_inception_weights_are_accepted(tmp_path):
    name = "pt_inception-2015-12-05-6726825d.pth"
    with pytest.raises(UserError, match=f"does not exist: download {name}"):
        load_inception(str(tmp_path / "none.pth"))
    (tmp_path / "other.pth").write_bytes(b"other")
    with pytest.raises(UserError, match="its SHA-256 begins with d9298a10: download it from"):
        load_inception(str(tmp_path / "other.pth"))


@pytest.mark.slow
def test_classifier_is_trained_again_if_the_images_or_the_arguments_change(tmp_path, monkeypatch):
    trained = []
    train = lambda graphdef, params, *args: trained.append(args) or params
    monkeypatch.setattr(feature_extractors, "_train", train)
    monkeypatch.setattr(feature_extractors, "_accuracy", lambda *args: 0.5)
    black, white = (
        InMemoryImages(np.full((8, 4, 4, 1), pixel, np.uint8), np.arange(8) % 2, ("a", "b"))
        for pixel in (0, 255)
    )
    original = {"train": black, "test": black}
    options = {"width": 2, "features": 2, "steps": 1, "batch": 8, "learning_rate": 0.1}
    augmentation = Augmentation(rotate=0.0, scale=0.0, shift=0.0, flip=False)

    def count(images, **changes):
        load_classifier(images, augmentation, str(tmp_path), **options | changes)
        return len(trained)

    assert [count(original), count(original)] == [1, 1]
    changes = [original | {"train": white}, original | {"test": white}, original]
    assert [count(images) for images in changes] == [2, 3, 4]
    assert [count(original, steps=2), count(original, steps=2)] == [5, 5]
    path = tmp_path / CLASSIFIER_FILE
    with np.load(path) as file:
        old = {name: file[name] for name in file if name != "origin"}
    np.savez(path, **old)  # as written by version 0.1.0
    assert count(original) == 5
