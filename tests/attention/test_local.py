"""Local attention against loops: windows, edges, padding, centres, and their gradients."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from attention import additive, local
from tests import naive

B, T, S, K, V, D = 2, 4, 7, 3, 2, 2
LENGTHS = jnp.array([7, 4])
VALID = jnp.arange(S) < LENGTHS[:, None]


def normal(seed, *shape):
    return jnp.asarray(np.random.default_rng(seed).normal(size=shape), jnp.float32)


Q, KEYS, VALUES, VECTOR = normal(1, B, T, K), normal(2, B, S, K), normal(3, B, S, V), normal(4, K)


@partial(jax.jit, static_argnames=("half_width", "gaussian"))
def run(centres, keys=KEYS, values=VALUES, half_width=D, gaussian=False):
    return local.attend(
        Q,
        keys,
        values,
        centres,
        VALID,
        half_width=half_width,
        gaussian=gaussian,
        score=additive,
        params=VECTOR,
    )


@pytest.mark.parametrize("gaussian", [False, True])
@settings(max_examples=10, deadline=None, derandomize=True)
@given(seed=st.integers(0, 1000))
def test_equals_loops(gaussian, seed):
    """Wherever the centres are, the edges among them."""
    last = np.asarray(LENGTHS)[:, None] - 1
    centres = np.random.default_rng(seed).random((B, T)) * last
    centres[:, 0], centres[:, 1] = 0, last[:, 0]
    contexts, weights = run(jnp.asarray(centres, jnp.float32), gaussian=gaussian)
    for b in range(B):
        logits = naive.additive(Q[b], KEYS[b], VECTOR)
        expected = naive.local(logits, centres[b], int(LENGTHS[b]), D, gaussian)
        found = local.scattered(weights[b], jnp.asarray(centres[b], jnp.float32), S)
        np.testing.assert_allclose(found, expected, atol=1e-5)
        np.testing.assert_allclose(contexts[b], naive.read(expected, VALUES[b]), atol=1e-5)


def test_a_window_as_wide_as_the_source_is_global_attention():
    contexts, weights = run(jnp.full((B, T), 3.0), half_width=S)
    for b in range(B):
        logits = naive.additive(Q[b], KEYS[b], VECTOR)
        expected = naive.soft(logits, np.broadcast_to(VALID[b], logits.shape))
        np.testing.assert_allclose(contexts[b], naive.read(expected, VALUES[b]), atol=1e-5)
    np.testing.assert_allclose(weights.sum(-1), 1.0, atol=1e-5)


def test_what_is_outside_of_the_windows_or_padding_does_not_matter():
    centres = jnp.full((B, T), 2.0)
    outside = (jnp.arange(S) > 2 + D)[:, None] | ~VALID[..., None]
    other = run(centres, jnp.where(outside, 1e6, KEYS), jnp.where(outside, 1e6, VALUES))
    for one, two in zip(run(centres), other, strict=True):
        np.testing.assert_array_equal(one, two)


def test_a_source_of_padding_alone_gives_zeros_and_finite_gradients():
    empty = jnp.zeros((B, S), bool)

    def form(q, k, v, centres):
        options = {"half_width": D, "gaussian": True, "score": additive, "params": VECTOR}
        return local.attend(q, k, v, centres, empty, **options)

    inputs = (Q, KEYS, VALUES, jnp.zeros((B, T)))
    assert not any(part.any() for part in jax.jit(form)(*inputs))
    gradients = jax.jit(jax.grad(lambda *x: form(*x)[0].sum(), (0, 1, 2, 3)))(*inputs)
    assert not any(gradient.any() for gradient in gradients)


def test_monotonic_centres_follow_the_target_as_far_as_there_is_a_source():
    found = local.monotonic_centres(jnp.broadcast_to(jnp.arange(T + 2), (B, T + 2)), LENGTHS)
    np.testing.assert_array_equal(found, [[0, 1, 2, 3, 4, 5], [0, 1, 2, 3, 3, 3]])


def test_predicted_centres_equal_the_equation():
    hidden = normal(5, B, T, K)
    found = jax.jit(local.predicted_centres)(hidden, VECTOR, LENGTHS)
    for b, t in np.ndindex(B, T):
        z = sum(float(v) * np.tanh(float(h)) for v, h in zip(VECTOR, hidden[b, t], strict=True))
        np.testing.assert_allclose(found[b, t], (LENGTHS[b] - 1) / (1 + np.exp(-z)), rtol=1e-5)


def test_gradients_equal_finite_differences_the_centres_too():
    """Of the loops in float64; the centres stay clear of where a window would jump."""
    centres = np.array([[0.2, 1.3, 4.8, 6.0], [0.4, 1.1, 2.2, 2.9]])
    weight = np.asarray(normal(6, B, T, V), np.float64)
    found = jax.jit(
        jax.grad(lambda *x: jnp.sum(weight * run(x[0], x[1], x[2], gaussian=True)[0]), (0, 1, 2))
    )(jnp.asarray(centres, jnp.float32), KEYS, VALUES)
    given = [np.asarray(x, np.float64) for x in (centres, KEYS, VALUES)]
    for i in range(3):

        def loss(x, i=i):
            centres, keys, values = (*given[:i], x, *given[i + 1 :])
            total = 0.0
            for b in range(B):
                logits = naive.additive(Q[b], keys[b], VECTOR)
                weights = naive.local(logits, centres[b], int(LENGTHS[b]), D, True)
                total += np.sum(weight[b] * naive.read(weights, values[b]))
            return total

        np.testing.assert_allclose(found[i], naive.gradient(loss, given[i]), atol=3e-5)


def test_its_cost_does_not_grow_with_the_source():
    """Of 4,096 positions only the windows are scored: FLOPs as compiled, without running."""

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
        form = jax.jit(partial(local.attend, half_width=D, gaussian=True))
        return form.lower(*shapes).compile().cost_analysis()["flops"]

    assert flops(4096) < 1.5 * flops(256)
