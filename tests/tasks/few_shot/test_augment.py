"""Random affine distortion."""

import jax
import jax.numpy as jnp
import numpy as np

from tasks.few_shot import glyphs
from tasks.few_shot.augment import random_affine


def test_distortion_moves_pixels_but_preserves_total_intensity():
    key = jax.random.key(0)
    classes = glyphs.glyphs(16)["test"][:40]
    images = jnp.asarray(np.stack([images[0] for images in classes])[None])
    original = images / 255.0
    np.testing.assert_allclose(random_affine(images, key, 0.0), original)
    distorted = jax.jit(lambda x: random_affine(x, key, 1.0))(images)
    ratio = distorted.sum((2, 3)) / original.sum((2, 3))
    assert ratio.min() > 0.5
    assert ratio.max() < 2.0
    assert abs(ratio.mean() - 1) < 0.1
    assert np.abs(distorted - original).max() > 0.5
