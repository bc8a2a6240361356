"""Inception v3: its size, and its pools at the edge of the map."""

import math

import jax.numpy as jnp
import numpy as np

from models import inception


def test_it_has_as_many_weights_as_published():
    """23,834,568 without moments of norms, for 1,000 classes and no second head (torchvision)."""
    found = inception.shapes()
    trained = {name: shape for name, shape in found.items() if "running" not in name}
    extra = (inception.CLASSES - 1000) * (inception.FEATURES + 1)
    assert sum(map(math.prod, trained.values())) - extra == 23_834_568
    assert len(found) == 94 * 5 + 2


def test_averages_leave_out_what_lies_beyond_the_map():
    x = jnp.arange(9.0).reshape(1, 3, 3, 1)
    found = inception._mean(x)[0, ..., 0]
    np.testing.assert_allclose(found, [[2, 2.5, 3], [3.5, 4, 4.5], [5, 5.5, 6]])
    np.testing.assert_array_equal(
        inception._largest(x, 1)[0, ..., 0], [[4, 5, 5], [7, 8, 8], [7, 8, 8]]
    )


def test_enlarging_keeps_the_middles_of_outer_pixels():
    """As bilinear without aligned corners: the first of 299 lies at (0.5 · 2 / 299 - 0.5) < 0."""
    x = jnp.array([[0.0, 1.0]]).reshape(1, 1, 2, 1) * jnp.ones((1, 2, 2, 3))
    row = inception.enlarge(x)[0, 0, :, 0]
    places = np.clip((np.arange(299) + 0.5) * 2 / 299 - 0.5, 0, 1)
    np.testing.assert_allclose(row, places, atol=1e-5)
