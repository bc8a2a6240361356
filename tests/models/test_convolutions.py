"""Convolutions with a resampling built in; batch normalisation, by class too, against NumPy."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from models import stencils
from models.convolutions import (
    BatchNorm,
    Conv,
    Moments,
    convolve,
    convolve_pooled,
    convolve_upsampled,
    forms,
    mean_pool,
    upsample,
)

KEY = jax.random.key(0)
X = jax.random.normal(jax.random.key(1), (2, 4, 6, 3))
W = jax.random.normal(jax.random.key(2), (3, 3, 3, 5))


def test_convolution_is_correlation_with_zeros_beyond_the_map():
    padded = np.pad(np.asarray(X), ((0, 0), (1, 1), (1, 1), (0, 0)))
    expected = np.zeros((2, 4, 6, 5))
    for y in range(4):
        for x in range(6):
            expected[:, y, x] = np.einsum(
                "bjic,jicd->bd", padded[:, y : y + 3, x : x + 3], np.asarray(W)
            )
    np.testing.assert_allclose(convolve(X, W), expected, rtol=1e-4, atol=1e-4)


def test_resampling_is_what_it_says():
    x = jnp.arange(4.0).reshape(1, 2, 2, 1)
    np.testing.assert_array_equal(
        upsample(x)[0, ..., 0], [[0, 0, 1, 1], [0, 0, 1, 1], [2, 2, 3, 3], [2, 2, 3, 3]]
    )
    np.testing.assert_array_equal(mean_pool(upsample(x)), x)
    np.testing.assert_array_equal(mean_pool(x), [[[[1.5]]]])


def with_gradients(f, x, w):
    """What it returns, and what follows from that for the map and for the kernel."""
    curved = lambda *a: jnp.sum(jnp.sin(f(*a)))
    return jax.jit(lambda x, w: (f(x, w), jax.grad(curved, (0, 1))(x, w)))(x, w)


def assert_alike(found, expected):
    for a, b in zip(*map(jax.tree.leaves, (found, expected)), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-4)


UPSAMPLED = lambda x, w: convolve(upsample(x), w)
POOLED = lambda x, w: mean_pool(convolve(x, w))


@pytest.mark.parametrize(
    ("short", "long"),
    [(convolve_upsampled, UPSAMPLED), (convolve_pooled, POOLED)],
    ids=["upsampled", "pooled"],
)
def test_the_short_way_equals_the_long_way_with_its_gradients(short, long):
    assert_alike(with_gradients(short, X, W), with_gradients(long, X, W))


@pytest.mark.parametrize(
    ("product", "convolution"),
    [
        (stencils.convolve, convolve),
        (stencils.convolve_upsampled, UPSAMPLED),
        (stencils.convolve_pooled, POOLED),
    ],
    ids=["plain", "upsampled", "pooled"],
)
@pytest.mark.parametrize(("channels", "outputs"), [(1, 6), (6, 1), (5, 6)])
def test_products_of_matrices_equal_convolutions_with_their_gradients(
    product, convolution, channels, outputs
):
    """With few channels before, after, and neither: each its own product."""
    rng = np.random.default_rng(0)
    x = jnp.asarray(rng.normal(size=(2, 4, 6, channels)), jnp.float32)
    w = jnp.asarray(rng.normal(size=(3, 3, channels, outputs)), jnp.float32)
    assert_alike(with_gradients(product, x, w), with_gradients(convolution, x, w))


@pytest.mark.parametrize("size", [1, 3])
def test_the_layer_resamples_before_or_after_its_bias_alike(size):
    layer = Conv(3, 5, size, key=KEY)
    layer.bias[...] = jnp.arange(5.0)
    np.testing.assert_allclose(layer.upsampled(X), layer(upsample(X)), rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(layer.pooled(X), mean_pool(layer(X)), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("size", [1, 3])
def test_the_gradient_of_a_bias_adds_up_in_float32(size):
    """A thousand positions: a sum of bfloat16 would stay at 256."""
    layer, x = Conv(3, 5, size, key=KEY), jnp.zeros((10, 10, 10, 3), jnp.bfloat16)
    for form, positions in ((Conv.__call__, 1_000), (Conv.upsampled, 4_000), (Conv.pooled, 250)):
        total = lambda layer, form=form: jnp.sum(form(layer, x).astype(jnp.float32))
        found = jax.jit(nnx.grad(total))(layer).bias[...]
        np.testing.assert_array_equal(found, np.full(5, positions))


def test_the_form_of_a_convolution_is_that_of_the_mesh():
    """A plan for a TPU is made where there is none."""
    tpu = jax.sharding.AbstractDevice(device_kind="TPU v5e", num_cores=1, platform="tpu")
    mesh = jax.sharding.AbstractMesh((1,), ("data",), abstract_device=tpu)
    here = forms()
    with jax.sharding.use_abstract_mesh(mesh):
        assert forms().plain is convolve
    assert here.plain is stencils.convolve


def test_batch_norm_by_class_is_that_of_numpy():
    norm, labels = BatchNorm(3, 4), jnp.array([3, 1])
    rng = np.random.default_rng(0)
    norm.gain[...] = jnp.asarray(rng.normal(size=(4, 3)), jnp.float32)
    norm.bias[...] = jnp.asarray(rng.normal(size=(4, 3)), jnp.float32)
    x = np.asarray(X, np.float64) * 3 + 2
    mean, variance = x.mean((0, 1, 2)), x.var((0, 1, 2))
    expected = np.stack(
        [
            norm.gain[...][label] * (image - mean) / np.sqrt(variance + 1e-5)
            + norm.bias[...][label]
            for image, label in zip(x, labels, strict=True)
        ]
    )
    y, moments = norm(jnp.asarray(x, jnp.float32), labels)
    np.testing.assert_allclose(y, expected, rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(moments.mean, mean, rtol=1e-5)
    np.testing.assert_allclose(moments.variance, variance, rtol=1e-4)


def test_given_moments_an_image_does_not_see_the_others():
    norm = BatchNorm(3)
    moments = Moments(jnp.array([1.0, 2.0, 3.0]), jnp.array([4.0, 1.0, 0.25]))
    y, same = norm(X, None, moments)
    assert same is moments
    expected = (np.asarray(X) - [1, 2, 3]) / np.sqrt(np.array([4, 1, 0.25]) + 1e-5)
    np.testing.assert_allclose(y, expected, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(norm(X[:1], None, moments)[0], y[:1], rtol=1e-6)
