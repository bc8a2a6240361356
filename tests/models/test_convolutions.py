"""Tests of `models.convolutions` and `models.matmul_convolutions`."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from models import convolutions, matmul_convolutions, winograd
from models.convolutions import (
    BatchNorm,
    Conv,
    Moments,
    conv_functions,
    convolve,
    mean_pool,
    upsample,
)
from tests.commands import fast_compilation
from training import flops

KEY = jax.random.key(0)
RNG = np.random.default_rng(0)
X = RNG.normal(size=(2, 4, 6, 3)).astype(np.float32)
REFERENCES = {
    "convolve": convolve,
    "convolve_upsampled": lambda x, w: convolve(upsample(x), w),
    "convolve_pooled": lambda x, w: mean_pool(convolve(x, w)),
}


def test_convolution_is_cross_correlation_with_zero_padding():
    weights = RNG.normal(size=(3, 3, 3, 5)).astype(np.float32)
    padded = np.pad(X, ((0, 0), (1, 1), (1, 1), (0, 0)))
    expected = np.zeros((2, 4, 6, 5))
    for y in range(4):
        for x in range(6):
            expected[:, y, x] = np.einsum("bjic,jicd->bd", padded[:, y : y + 3, x : x + 3], weights)
    actual = convolve(jnp.asarray(X), jnp.asarray(weights))
    np.testing.assert_allclose(actual, expected, rtol=1e-4, atol=1e-4)


def test_upsample_and_mean_pool_equal_hand_computed_values():
    x = jnp.arange(4.0).reshape(1, 2, 2, 1)
    np.testing.assert_array_equal(
        upsample(x)[0, ..., 0], [[0, 0, 1, 1], [0, 0, 1, 1], [2, 2, 3, 3], [2, 2, 3, 3]]
    )
    np.testing.assert_array_equal(mean_pool(upsample(x)), x)
    np.testing.assert_array_equal(mean_pool(x), [[[[1.5]]]])


def values_and_gradients(functions, inputs, outputs):
    """Results of each function, and gradients of a nonlinear loss w.r.t. map and kernel."""
    rng = np.random.default_rng(0)
    x = jnp.asarray(rng.normal(size=(2, 4, 6, inputs)), jnp.float32)
    weights = jnp.asarray(rng.normal(size=(3, 3, inputs, outputs)), jnp.float32)

    @jax.jit
    def compute(x, w):
        loss = lambda f, x, w: jnp.sum(jnp.sin(f(x, w)))
        return {
            name: (f(x, w), jax.grad(functools.partial(loss, f), (0, 1))(x, w))
            for name, f in functions.items()
        }

    with fast_compilation():
        return compute(x, weights)


@functools.cache
def reference_values_and_gradients(inputs, outputs):
    return values_and_gradients(REFERENCES, inputs, outputs)


# `matmul_convolutions` is tested with one input channel, one output channel, and several of both.
@pytest.mark.parametrize(
    ("module", "inputs", "outputs"),
    [
        (convolutions, 5, 6),
        (matmul_convolutions, 1, 6),
        (matmul_convolutions, 6, 1),
        (matmul_convolutions, 5, 6),
    ],
)
def test_fused_convolutions_equal_their_definition(module, inputs, outputs):
    functions = {name: getattr(module, name) for name in REFERENCES}
    actual = values_and_gradients(functions, inputs, outputs)
    expected = reference_values_and_gradients(inputs, outputs)
    for a, b in zip(*map(jax.tree.leaves, (actual, expected)), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-4)


def test_winograd_convolution_equals_its_definition():
    actual = values_and_gradients({"convolve": winograd.convolve}, 5, 6)
    expected = reference_values_and_gradients(5, 6)
    for a, b in zip(*map(jax.tree.leaves, (actual["convolve"], expected["convolve"])), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-4)


def multiplications(x, channels):
    """Multiplications of `matmul_convolutions.convolve` per output and input channel."""
    weights = jnp.zeros((3, 3, x.shape[-1], channels), x.dtype)
    jaxpr = jax.make_jaxpr(matmul_convolutions.convolve)(x, weights)
    return flops.count(jaxpr) / (2 * x.size * channels)


def test_winograd_needs_four_ninths_of_the_multiplications_of_large_float32_maps():
    large = jnp.zeros((4, 32, 32, 32))
    assert multiplications(large, 32) == 4
    assert multiplications(large.astype(jnp.bfloat16), 32) == 9
    assert multiplications(large, 16) == 9
    assert multiplications(large[:1], 32) == 9
    assert multiplications(jnp.zeros((2, 33, 33, 32)), 32) == 9


@pytest.mark.parametrize("size", [1, 3])
def test_fused_resampling_equals_separate_layer_and_resampling(size):
    layer = Conv(3, 5, size, key=KEY)
    layer.bias[...] = jnp.arange(5.0)

    @jax.jit
    def compute(layer, x):
        return [
            (layer.upsampled(x), layer(upsample(x))),
            (layer.pooled(x), mean_pool(layer(x))),
        ]

    with fast_compilation():
        for actual, expected in compute(layer, jnp.asarray(X)):
            np.testing.assert_allclose(actual, expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("size", [1, 3])
def test_bias_gradient_is_summed_in_float32(size):
    """A sum of ones over the positions would stop at 256 in bfloat16."""
    layer, x = Conv(3, 5, size, key=KEY), jnp.zeros((10, 10, 10, 3), jnp.bfloat16)
    positions = {Conv.__call__: 1_000, Conv.upsampled: 4_000, Conv.pooled: 250}

    @jax.jit
    def gradients(layer):
        loss = lambda layer, method: jnp.sum(method(layer, x).astype(jnp.float32))
        return [nnx.grad(functools.partial(loss, method=m))(layer).bias[...] for m in positions]

    with fast_compilation():
        for actual, expected in zip(gradients(layer), positions.values(), strict=True):
            np.testing.assert_array_equal(actual, np.full(5, expected))


def test_implementation_follows_the_platform_of_the_mesh():
    """A plan for a TPU uses an abstract TPU mesh on a CPU host."""
    tpu = jax.sharding.AbstractDevice(device_kind="TPU v5e", num_cores=1, platform="tpu")
    mesh = jax.sharding.AbstractMesh((1,), ("data",), abstract_device=tpu)
    assert conv_functions().plain is matmul_convolutions.convolve
    with jax.sharding.use_abstract_mesh(mesh):
        assert conv_functions().plain is convolve


def test_conditional_batch_norm_equals_numpy():
    norm, labels = BatchNorm(3, 4), jnp.array([3, 1])
    rng = np.random.default_rng(0)
    gain, bias = rng.normal(size=(2, 4, 3)).astype(np.float32)
    norm.gain[...], norm.bias[...] = jnp.asarray(gain), jnp.asarray(bias)
    x = X * 3 + 2
    mean, variance = x.astype(np.float64).mean((0, 1, 2)), x.astype(np.float64).var((0, 1, 2))
    expected = np.stack(
        [
            gain[label] * (image - mean) / np.sqrt(variance + 1e-5) + bias[label]
            for image, label in zip(x, labels, strict=True)
        ]
    )
    y, moments = jax.jit(lambda norm, x: norm(x, labels))(norm, jnp.asarray(x))
    np.testing.assert_allclose(y, expected, rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(moments.mean, mean, rtol=1e-5)
    np.testing.assert_allclose(moments.variance, variance, rtol=1e-4)


def test_batch_norm_with_given_moments_does_not_mix_examples():
    norm = BatchNorm(3)
    moments = Moments(jnp.array([1.0, 2.0, 3.0]), jnp.array([4.0, 1.0, 0.25]))
    y, same = norm(jnp.asarray(X), None, moments)
    assert same is moments
    expected = (X - [1, 2, 3]) / np.sqrt(np.array([4, 1, 0.25]) + 1e-5)
    np.testing.assert_allclose(y, expected, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(norm(jnp.asarray(X[:1]), None, moments)[0], y[:1], rtol=1e-6)
