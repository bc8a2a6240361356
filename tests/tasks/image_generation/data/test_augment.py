"""Tests of `tasks.image_generation.data.augment`."""

import jax
import jax.numpy as jnp
import numpy as np

from tasks.image_generation.data.augment import Augmentation, preprocess
from tests.commands import fast_compilation

IDENTITY = Augmentation(rotate=0.0, scale=0.0, shift=0.0, flip=False)
Y, X = np.mgrid[:31, :31] - 15
COPIES = 64


def augment(images, **changes):
    """Images in [-1, 1] after the given augmentations."""
    augmentation = IDENTITY._replace(**changes)
    apply = jax.jit(lambda images: preprocess(images, augmentation, jax.random.key(0)))
    with fast_compilation():
        return np.asarray(apply(jnp.asarray(images)))


def augment_copies(image, **changes):
    """Augmented copies of an image `[31, 31]` with values in [0, 1]."""
    copies = np.broadcast_to(np.uint8(255 * image)[..., None], (COPIES, 31, 31, 1))
    return (augment(copies, **changes)[..., 0] + 1) / 2


def test_without_augmentation_pixels_are_scaled():
    images = np.arange(256, dtype=np.uint8).reshape(1, 16, 16, 1)
    np.testing.assert_allclose(augment(images), images / 127.5 - 1.0, atol=1e-6)


def test_half_of_the_images_are_flipped():
    images = np.random.default_rng(0).integers(0, 255, (64, 4, 4, 1), np.uint8)
    pixels = np.rint((augment(images, flip=True) + 1) * 127.5)
    same = (pixels == images).all((1, 2, 3))
    np.testing.assert_array_equal(pixels[~same], images[~same][:, :, ::-1])
    assert 16 < same.sum() < 48


def test_shift_is_limited():
    augmented = augment_copies(np.float32((Y == 0) & (X == 0)), shift=3.0)
    y, x = ((augmented * axis).sum((1, 2)) / augmented.sum((1, 2)) for axis in (Y, X))
    offsets = np.abs([y, x])
    assert 2 < offsets.max() <= 3.001 and offsets.mean() > 1


def test_rotation_is_about_the_center_and_limited():
    augmented = augment_copies(np.exp(-(Y**2 + (X - 8) ** 2) / 4), rotate=45.0)
    y, x = ((augmented * axis).sum((1, 2)) / augmented.sum((1, 2)) for axis in (Y, X))
    np.testing.assert_allclose(np.hypot(y, x), 8, atol=0.1)
    angles = np.rad2deg(np.arctan2(y, x))
    assert -45.5 < angles.min() < -35 and 35 < angles.max() < 45.5


def test_rotation_preserves_a_centered_disc():
    disc, radius = np.float32(np.hypot(Y, X) < 9), np.hypot(Y, X)
    difference = np.abs(augment_copies(disc, rotate=45.0) - disc)
    assert difference[:, (radius < 7) | (radius > 11)].max() < 1e-4


def test_scale_is_limited():
    disc = np.float32(np.hypot(Y, X) < 9)
    areas = augment_copies(disc, scale=0.2).sum((1, 2)) / disc.sum()
    assert 0.8**2 - 0.01 < areas.min() < 0.7 and 1.35 < areas.max() < 1.2**2 + 0.01
