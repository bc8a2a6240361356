"""Tests of `models.inception`."""

import math

import jax
import jax.numpy as jnp
import numpy as np

from models import inception


def test_number_of_weights_equals_torchvision():
    """23,834,568 for 1,000 classes, without batch-norm moments and auxiliary classifier."""
    shapes = inception.weight_shapes()
    trained = {name: shape for name, shape in shapes.items() if "running" not in name}
    extra = (inception.CLASSES - 1000) * (inception.FEATURES + 1)
    assert sum(map(math.prod, trained.values())) - extra == 23_834_568
    assert len(shapes) == 94 * 5 + 2


def test_pooling_ignores_positions_beyond_the_map():
    x = jnp.arange(9.0).reshape(1, 3, 3, 1)
    average = inception._average_pool(x)[0, ..., 0]
    np.testing.assert_allclose(average, [[2, 2.5, 3], [3.5, 4, 4.5], [5, 5.5, 6]])
    largest = inception._max_pool(x, 1)[0, ..., 0]
    np.testing.assert_array_equal(largest, [[4, 5, 5], [7, 8, 8], [7, 8, 8]])


def test_resize_does_not_align_corners():
    """The first of 299 pixels is at (0.5 · 2 / 299 - 0.5) < 0, and takes the value of pixel 0."""
    x = jnp.array([[0.0, 1.0]]).reshape(1, 1, 2, 1) * jnp.ones((1, 2, 2, 3))
    row = inception.resize(x)[0, 0, :, 0]
    positions = np.clip((np.arange(299) + 0.5) * 2 / 299 - 0.5, 0, 1)
    np.testing.assert_allclose(row, positions, atol=1e-5)


def test_conv_block_equals_numpy(monkeypatch):
    """Convolution, batch norm and ReLU with weights in PyTorch's layout [out, in, rows, columns].

    The backbone is replaced by one block with a kernel that is not square.
    """
    rng = np.random.default_rng(0)
    normal = lambda *shape: rng.normal(size=shape).astype(np.float32)
    images, kernel = normal(2, 7, 8, 3), normal(4, 3, 3, 2)
    norm = {part: normal(4) for part in ("weight", "bias", "running_mean")}
    norm["running_var"] = rng.uniform(0.01, 1.0, 4).astype(np.float32)
    weights = {f"block.bn.{part}": value for part, value in norm.items()}
    weights |= {"block.conv.weight": kernel, "fc.weight": normal(5, 48), "fc.bias": normal(5)}
    monkeypatch.setattr(inception, "resize", lambda images: images)
    backbone = lambda x, conv: conv("block", x, 4, (3, 2), 2, "VALID").reshape(2, 48)
    monkeypatch.setattr(inception, "backbone", backbone)
    features, logits = jax.jit(inception.apply)(*jax.tree.map(jnp.asarray, (weights, images)))

    expected = np.zeros((2, 3, 4, 4))
    for y in range(3):
        for x in range(4):
            window = images[:, 2 * y : 2 * y + 3, 2 * x : 2 * x + 2]
            expected[:, y, x] = np.einsum("bjic,dcji->bd", window, kernel)
    expected = (expected - norm["running_mean"]) / np.sqrt(norm["running_var"] + 1e-3)
    expected = np.maximum(expected * norm["weight"] + norm["bias"], 0).reshape(2, 48)
    np.testing.assert_allclose(features, expected, rtol=1e-4, atol=1e-4)
    expected = expected @ weights["fc.weight"].T + weights["fc.bias"]
    np.testing.assert_allclose(logits, expected, rtol=1e-4, atol=1e-3)
