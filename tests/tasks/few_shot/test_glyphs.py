"""Classes of rendered letters."""

import numpy as np
import pytest

from tasks.few_shot import glyphs


@pytest.fixture(scope="module")
def classes():
    return glyphs.glyphs(16)


def test_scripts_of_the_splits_are_disjoint(classes):
    train, dev, test = (set(glyphs.SCRIPTS[split]) for split in ("train", "dev", "test"))
    assert not train & dev
    assert not train & test
    assert not dev & test
    assert all(len(classes[split]) > 200 for split in ("train", "dev", "test"))


def test_no_two_classes_are_similar(classes):
    """Test classes must not be similar to training classes, so all splits are compared."""
    images = [images for split in classes.values() for images in split]
    assert all(len(x) > 1 and x.max((1, 2)).min() > 0 for x in images)
    flat = np.array([x[0].reshape(-1) for x in images], np.float32)
    flat /= np.linalg.norm(flat, axis=1, keepdims=True)
    assert (flat @ flat.T - np.eye(len(flat))).max() < glyphs.MAX_SIMILARITY + 1e-5


def test_rotations_are_classes(classes):
    known = {images[0].tobytes() for images in classes["test"]}
    rotated = [np.rot90(images[0]).tobytes() in known for images in classes["test"]]
    assert np.mean(rotated) > 0.5
