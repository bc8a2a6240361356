"""Inception v3: its size, and its pools at the edge of the map."""

import math

import jax
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


def test_a_unit_is_convolution_normalisation_and_rectifier(monkeypatch):
    """Position by position in NumPy, of weights as PyTorch lays them out: [out, in, rows, columns].

    The network is cut to one unit, whose kernel is not square, and its last layer.
    """
    rng = np.random.default_rng(0)
    normal = lambda *shape: rng.normal(size=shape).astype(np.float32)
    images, kernel = normal(2, 7, 8, 3), normal(4, 3, 3, 2)
    norm = {part: normal(4) for part in ("weight", "bias", "running_mean")}
    norm["running_var"] = rng.uniform(0.01, 1.0, 4).astype(np.float32)
    weights = {f"unit.bn.{part}": value for part, value in norm.items()}
    weights |= {"unit.conv.weight": kernel, "fc.weight": normal(5, 48), "fc.bias": normal(5)}
    monkeypatch.setattr(inception, "enlarge", lambda images: images)
    body = lambda x, unit: unit("unit", x, 4, (3, 2), 2, "VALID").reshape(2, 48)
    monkeypatch.setattr(inception, "body", body)
    features, logits = inception.see(*jax.tree.map(jnp.asarray, (weights, images)))

    expected = np.zeros((2, 3, 4, 4))
    for y in range(3):
        for x in range(4):
            seen = images[:, 2 * y : 2 * y + 3, 2 * x : 2 * x + 2]
            expected[:, y, x] = np.einsum("bjic,dcji->bd", seen, kernel)
    expected = (expected - norm["running_mean"]) / np.sqrt(norm["running_var"] + 1e-3)
    expected = np.maximum(expected * norm["weight"] + norm["bias"], 0).reshape(2, 48)
    np.testing.assert_allclose(features, expected, rtol=1e-4, atol=1e-4)
    expected = expected @ weights["fc.weight"].T + weights["fc.bias"]
    np.testing.assert_allclose(logits, expected, rtol=1e-4, atol=1e-3)
