"""Local attention against loops: windows, edges, padding, centers, gradients and cost."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from attention import additive, local
from tests import naive
from tests.models.tiny import unoptimized_jit

B, T, S, K, V, D = 2, 4, 7, 3, 2, 2
LENGTHS = np.array([7, 4])
VALID = np.arange(S) < LENGTHS[:, None]


def normal(seed, *shape):
    return np.float32(np.random.default_rng(seed).normal(size=shape))


Q, KEYS, VALUES, VECTOR = normal(1, B, T, K), normal(2, B, S, K), normal(3, B, S, V), normal(4, K)


def attend(centers, keys=KEYS, values=VALUES, queries=Q, valid=VALID, half_width=D, gaussian=False):
    return local.attend(
        *map(jnp.asarray, (queries, keys, values, centers, valid)),
        half_width=half_width,
        gaussian=gaussian,
        score=additive,
        params=jnp.asarray(VECTOR),
    )


jit_attend = unoptimized_jit(attend, static_argnames=("half_width", "gaussian"))
jit_scatter = unoptimized_jit(local.scatter, static_argnums=2)


@pytest.mark.parametrize("gaussian", [False, True])
@settings(max_examples=10, deadline=None, derandomize=True)
@given(seed=st.integers(0, 1000))
def test_attend_equals_loops(gaussian, seed):
    """Random centers, and windows at both ends of the source."""
    last = LENGTHS[:, None] - 1
    centers = np.random.default_rng(seed).random((B, T)) * last
    centers[:, 0], centers[:, 1] = 0, last[:, 0]
    contexts, weights = jax.device_get(jit_attend(np.float32(centers), gaussian=gaussian))
    actual = jax.device_get(jit_scatter(weights, np.float32(centers), S))
    for b in range(B):
        logits = naive.additive(Q[b], KEYS[b], VECTOR)
        expected = naive.local(logits, centers[b], int(LENGTHS[b]), D, gaussian)
        np.testing.assert_allclose(actual[b], expected, atol=1e-5)
        np.testing.assert_allclose(contexts[b], naive.read(expected, VALUES[b]), atol=1e-5)


def test_window_as_wide_as_the_source_equals_global_attention():
    contexts, weights = jax.device_get(jit_attend(np.full((B, T), 3.0), half_width=S))
    for b in range(B):
        logits = naive.additive(Q[b], KEYS[b], VECTOR)
        expected = naive.soft(logits, np.broadcast_to(VALID[b], logits.shape))
        np.testing.assert_allclose(contexts[b], naive.read(expected, VALUES[b]), atol=1e-5)
    np.testing.assert_allclose(weights.sum(-1), 1.0, atol=1e-5)


def test_positions_outside_the_windows_and_padding_have_no_effect():
    centers = np.full((B, T), 2.0)
    outside = (np.arange(S) > 2 + D)[:, None] | ~VALID[..., None]
    other = jit_attend(centers, np.where(outside, 1e6, KEYS), np.where(outside, 1e6, VALUES))
    for x, y in zip(jit_attend(centers), other, strict=True):
        np.testing.assert_array_equal(x, y)


@unoptimized_jit
def gradients(weight, valid, *arguments):
    """Gradients of a weighted sum of the contexts w.r.t. centers, keys, values and queries."""
    loss = lambda *x: jnp.sum(weight * attend(*x, valid, gaussian=True)[0])
    return jax.grad(loss, (0, 1, 2, 3))(*arguments)


def test_source_of_padding_only_gives_zeros_and_zero_gradients():
    padding, arguments = np.zeros((B, S), bool), (np.zeros((B, T)), KEYS, VALUES, Q)
    results = jit_attend(*arguments, padding, gaussian=True)
    results = (*results, *gradients(np.ones((B, T, V)), padding, *arguments))
    assert not any(x.any() for x in jax.device_get(results))


def test_gradients_equal_finite_differences():
    """Finite differences use the float64 loops; centers are away from rounding boundaries."""
    centers = np.array([[0.2, 1.3, 4.8, 6.0], [0.4, 1.1, 2.2, 2.9]])
    weight = np.asarray(normal(6, B, T, V), np.float64)
    actual = gradients(weight, VALID, np.float32(centers), KEYS, VALUES, Q)
    arrays = [np.asarray(x, np.float64) for x in (centers, KEYS, VALUES, Q)]
    for i in range(4):

        def loss(x, i=i):
            centers, keys, values, queries = (*arrays[:i], x, *arrays[i + 1 :])
            total = 0.0
            for b in range(B):
                logits = naive.additive(queries[b], keys[b], VECTOR)
                weights = naive.local(logits, centers[b], int(LENGTHS[b]), D, True)
                total += np.sum(weight[b] * naive.read(weights, values[b]))
            return total

        np.testing.assert_allclose(actual[i], naive.gradient(loss, arrays[i]), atol=3e-5)


def test_monotonic_centers_stop_at_the_last_source_position():
    actual = unoptimized_jit(local.monotonic_centers)(np.arange(T + 2)[None], LENGTHS)
    np.testing.assert_array_equal(actual, [[0, 1, 2, 3, 4, 5], [0, 1, 2, 3, 3, 3]])


def test_predicted_centers_equal_the_equation():
    hidden = normal(5, B, T, K)
    actual = unoptimized_jit(local.predicted_centers)(hidden, VECTOR, LENGTHS)
    for b, t in np.ndindex(B, T):
        z = sum(float(v) * np.tanh(float(h)) for v, h in zip(VECTOR, hidden[b, t], strict=True))
        np.testing.assert_allclose(actual[b, t], (LENGTHS[b] - 1) / (1 + np.exp(-z)), rtol=1e-5)


def test_flops_do_not_grow_with_the_source_length():
    def flops(length):
        shapes = [
            jax.ShapeDtypeStruct(shape, dtype)
            for shape, dtype in (
                ((1, 16, 64), jnp.float32),
                ((1, length, 64), jnp.float32),
                ((1, length, 64), jnp.float32),
                ((1, 16), jnp.float32),
                ((1, length), jnp.bool_),
            )
        ]
        function = jax.jit(partial(local.attend, half_width=D, gaussian=True))
        return function.lower(*shapes).compile().cost_analysis()["flops"]

    assert flops(4096) < 1.5 * flops(256)
