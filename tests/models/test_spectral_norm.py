"""Spectral normalisation against the singular values themselves."""

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from models import spectral_norm as spectral
from models.convolutions import BatchNorm, Conv

KEY = jax.random.key(0)


class Some(nnx.Module):
    def __init__(self):
        self.conv = Conv(3, 5, key=KEY)
        self.table = spectral.kernel(jax.random.normal(KEY, (4, 7)), (None, None))
        self.norm = BatchNorm(5, 10)


@jax.jit
def normalise(params, vectors):
    return spectral.normalise(params, vectors)


def repeated(params, vectors, times):
    """What comes out of one use after the other."""
    found = []
    for _ in range(times):
        found.append(normalise(params, vectors))
        vectors = found[-1][1]
    return found


def largest(x):
    return np.linalg.svd(np.asarray(x).reshape(-1, x.shape[-1]), compute_uv=False)[0]


def test_many_iterations_divide_by_the_largest_singular_value_and_by_nothing_else():
    params = nnx.state(Some())
    vectors = spectral.start(params, KEY)
    assert {name: v.shape for name, v in vectors.items()} == {"conv/kernel": (5,), "table": (7,)}
    found, new = repeated(params, vectors, 200)[-1]
    for name in ("conv", "kernel"), ("table",):
        before, after = params, found
        for part in name:
            before, after = before[part], after[part]
        sigma = largest(before[...])
        np.testing.assert_allclose(after[...] * sigma, before[...], rtol=1e-4, atol=1e-6)
        np.testing.assert_allclose(largest(after[...]), 1.0, rtol=1e-4)
        np.testing.assert_allclose(np.linalg.norm(new["/".join(name)]), 1.0, rtol=1e-5)
    for path in ("conv", "bias"), ("norm", "gain"), ("norm", "bias"):
        np.testing.assert_array_equal(found[path[0]][path[1]][...], params[path[0]][path[1]][...])


def test_one_iteration_at_each_use_comes_as_close_in_time():
    """The vectors that came out go in again: what training relies on."""
    params = nnx.state(Some())
    found = repeated(params, spectral.start(params, KEY), 100)
    errors = [abs(largest(weights["conv"]["kernel"][...]) - 1.0) for weights, _ in found]
    assert errors[-1] < 1e-3 < errors[0] and errors[-1] <= min(errors[:10])


def test_the_gradient_is_that_of_dividing_by_the_singular_value():
    """With converged vectors; beside differences of the true quotient."""
    w, weigh, direction = np.random.default_rng(0).normal(size=(3, 6, 4))
    vector = jnp.asarray(np.linalg.svd(w.reshape(-1, 4))[2][0], jnp.float32)

    def loss(w):
        sigma, _ = spectral.power_iteration(w, vector)
        return jnp.sum(w / sigma * jnp.asarray(weigh, jnp.float32))

    slope = np.sum(np.asarray(jax.grad(loss)(jnp.asarray(w, jnp.float32))) * direction)
    true = lambda w: np.sum(w / largest(w) * weigh)
    step = 1e-5
    expected = (true(w + step * direction) - true(w - step * direction)) / (2 * step)
    np.testing.assert_allclose(slope, expected, rtol=1e-3)
