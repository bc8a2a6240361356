"""Tests of `models.spectral_norm` against singular values from NumPy."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from models import spectral_norm
from models.convolutions import BatchNorm, Conv

KEY = jax.random.key(0)


class Network(nnx.Module):
    def __init__(self):
        self.conv = Conv(3, 5, key=KEY)
        self.table = spectral_norm.spectral_param(jax.random.normal(KEY, (4, 7)), (None, None))
        self.norm = BatchNorm(5, 10)


@pytest.fixture(scope="module")
def params():
    return nnx.state(Network())


@pytest.fixture(scope="module")
def iterations(params):
    """Results of 200 successive iterations: normalized parameters and singular vectors."""
    vectors = spectral_norm.init_vectors(params, KEY)
    assert {name: v.shape for name, v in vectors.items()} == {"conv/kernel": (5,), "table": (7,)}
    normalize = jax.jit(lambda params, vectors: spectral_norm.normalize(params, vectors))
    iterations = []
    for _ in range(200):
        iterations.append(normalize(params, vectors))
        vectors = iterations[-1][1]
    return iterations


def largest_singular_value(x):
    return np.linalg.svd(np.asarray(x).reshape(-1, x.shape[-1]), compute_uv=False)[0]


def test_converged_iteration_divides_only_marked_weights(params, iterations):
    normalized, vectors = iterations[-1]
    for name in ("conv", "kernel"), ("table",):
        before, after = params, normalized
        for part in name:
            before, after = before[part], after[part]
        sigma = largest_singular_value(before[...])
        np.testing.assert_allclose(after[...] * sigma, before[...], rtol=1e-4, atol=1e-6)
        np.testing.assert_allclose(largest_singular_value(after[...]), 1.0, rtol=1e-4)
        np.testing.assert_allclose(np.linalg.norm(vectors["/".join(name)]), 1.0, rtol=1e-5)
    for module, name in ("conv", "bias"), ("norm", "gain"), ("norm", "bias"):
        np.testing.assert_array_equal(normalized[module][name][...], params[module][name][...])


def test_error_decreases_over_successive_iterations(iterations):
    errors = [
        abs(largest_singular_value(normalized["conv"]["kernel"][...]) - 1.0)
        for normalized, _ in iterations[:100]
    ]
    assert errors[-1] < 1e-3 < errors[0] and errors[-1] <= min(errors[:10])


def test_gradient_equals_finite_differences_of_division_by_the_singular_value():
    """The vectors are converged; the finite differences use the exact quotient."""
    w, coefficients, direction = np.random.default_rng(0).normal(size=(3, 6, 4))
    vector = jnp.asarray(np.linalg.svd(w)[2][0], jnp.float32)

    def loss(w):
        sigma, _ = spectral_norm.power_iteration(w, vector)
        return jnp.sum(w / sigma * jnp.asarray(coefficients, jnp.float32))

    gradient = jax.jit(jax.grad(loss))(jnp.asarray(w, jnp.float32))
    exact_loss = lambda w: np.sum(w / largest_singular_value(w) * coefficients)
    step = 1e-5
    difference = exact_loss(w + step * direction) - exact_loss(w - step * direction)
    np.testing.assert_allclose(np.sum(gradient * direction), difference / (2 * step), rtol=1e-3)
