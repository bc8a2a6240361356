"""Tests of `models.vgg`."""

import math

import jax.numpy as jnp
import numpy as np

from models import vgg


def test_number_of_weights_equals_torchvision():
    """Torchvision's VGG-19 without its classifier has 20,024,384 weights."""
    shapes = vgg.weight_shapes()
    assert sum(map(math.prod, shapes.values())) == 20_024_384
    assert len(shapes) == 2 * 16
    assert shapes["features.34.weight"] == (512, 512, 3, 3)  # conv5_4


def test_pixels_of_the_mean_color_are_zero():
    color = np.rint(255 * np.array(vgg.MEAN)).astype(np.uint8)
    images = jnp.asarray(np.broadcast_to(color, (1, 2, 2, 3)))
    np.testing.assert_allclose(vgg.normalize(images), 0, atol=0.01)
    white = vgg.normalize(jnp.full((1, 1, 1, 3), 255, jnp.uint8))
    np.testing.assert_allclose(white[0, 0, 0], (1 - np.array(vgg.MEAN)) / vgg.DEVIATION, rtol=1e-5)
