"""Scores against loops: logits, gradients, dtypes, masks, and invariance to the order of keys."""

from functools import cache

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from attention import (
    additive,
    attend,
    blockwise,
    content,
    dot,
    general,
    local,
    location,
    scaled_dot,
)
from tests import naive
from tests.models.tiny import unoptimized_jit

B, T, S, K, J = 2, 3, 4, 5, 2


def normal(seed, *shape):
    return np.float32(np.random.default_rng(seed).normal(size=shape))


QUERIES, KEYS, VALUES = normal(1, B, T, K), normal(2, B, S, K), normal(3, B, S, J)

# Score, reference implementation and parameters.
SCORES = {
    "dot": (dot, naive.dot, ()),
    "location": (location, naive.dot, ()),
    "general": (general, naive.general, (normal(9, K, K),)),
    "content": (content, naive.content, (np.asarray(normal(9) ** 2),)),
    "additive": (additive, naive.additive, (normal(9, K),)),
}
for_each_score = pytest.mark.parametrize("score, loops, params", SCORES.values(), ids=SCORES)


@cache
def logits_and_gradients(score):
    """Jitted function from a weight of the logits and all arguments to logits and gradients."""

    @unoptimized_jit
    def run(weight, *arguments):
        logits, score_vjp = jax.vjp(score, *arguments)
        return logits, score_vjp(weight)

    return run


@for_each_score
def test_logits_equal_loops(score, loops, params):
    logits, _ = logits_and_gradients(score)(np.ones((B, T, S)), QUERIES, KEYS, *params)
    assert logits.dtype == jnp.float32
    expected = naive.map_batch(lambda q, k: loops(q, k, *params), QUERIES, KEYS)
    np.testing.assert_allclose(logits, expected, atol=1e-5)


@for_each_score
def test_gradients_equal_finite_differences(score, loops, params):
    """Finite differences use the float64 loops."""
    arguments, weight = (QUERIES, KEYS, *params), normal(3, B, T, S)
    _, gradients = logits_and_gradients(score)(weight, *arguments)
    arrays = [np.asarray(x, np.float64) for x in arguments]
    for i, actual in enumerate(gradients):

        def loss(x, i=i):
            queries, keys, *params = (*arrays[:i], x, *arrays[i + 1 :])
            logits = naive.map_batch(lambda q, k: loops(q, k, *params), queries, keys)
            return np.sum(np.asarray(weight) * logits)

        np.testing.assert_allclose(actual, naive.gradient(loss, arrays[i]), atol=2e-5)


@for_each_score
def test_logits_of_bfloat16_inputs_are_float32(score, loops, params):
    queries, keys = (x[0].astype(jnp.bfloat16) for x in (QUERIES, KEYS))
    logits = unoptimized_jit(score)(queries, keys, *params)
    assert logits.dtype == jnp.float32
    expected = loops(*(np.asarray(x, np.float64) for x in (queries, keys)), *params)
    np.testing.assert_allclose(logits, expected, atol=0.08)


def test_scaled_dot_of_bfloat16_inputs_is_not_rounded_by_the_scale():
    """The square root of K = 32 is not representable in bfloat16."""
    queries, keys = (normal(n, T, 32).astype(jnp.bfloat16) for n in (1, 2))
    logits = unoptimized_jit(scaled_dot)(queries, keys)
    expected = naive.scaled_dot(np.float64(queries), np.float64(keys))
    np.testing.assert_allclose(logits, expected, atol=1e-5)


def test_key_strengths_of_sequences_scale_their_logits():
    strengths = np.float32([0.5, 3.0])
    logits = unoptimized_jit(content)(QUERIES, KEYS, strengths)
    for b in range(B):
        expected = naive.content(QUERIES[b], KEYS[b], strengths[b])
        np.testing.assert_allclose(logits[b], expected, atol=1e-5)


@for_each_score
@settings(max_examples=15, deadline=None, derandomize=True)
@given(order=st.permutations(range(S)))
def test_logits_do_not_depend_on_the_order_of_keys(score, loops, params, order):
    """The logit of a key is therefore independent of other keys, such as padding."""
    run, weight, order = logits_and_gradients(score), np.ones((B, T, S)), np.array(order)
    logits, _ = run(weight, QUERIES, KEYS, *params)
    permuted, _ = run(weight, QUERIES, KEYS[:, order], *params)
    np.testing.assert_allclose(permuted, np.asarray(logits)[..., order], atol=1e-5)


@for_each_score
def test_attention_equals_loops_and_a_fully_masked_query_is_zero(score, loops, params):
    mask = np.array([[True, True, False, True], [False] * S, [True, False, False, True]])

    @unoptimized_jit
    def run(*arguments):
        def contexts(queries, keys, values, *params):
            return attend(
                queries,
                keys,
                values,
                score=score,
                params=(*params, None)[0],
                mask=jnp.asarray(mask),
            )

        contexts, contexts_vjp, _ = jax.vjp(contexts, *arguments, has_aux=True)
        return contexts, contexts_vjp(jnp.cos(contexts))

    contexts, gradients = jax.device_get(run(QUERIES[0], KEYS[0], VALUES[0], *params))
    expected = naive.read(naive.soft(loops(QUERIES[0], KEYS[0], *params), mask), VALUES[0])
    np.testing.assert_allclose(contexts, expected, atol=1e-5)
    assert not contexts[1].any() and not gradients[0][1].any()
    assert all(np.isfinite(gradient).all() for gradient in gradients)
    assert gradients[0][0].any()


@pytest.mark.parametrize("dtype, tolerance", [(jnp.float32, 1e-6), (jnp.bfloat16, 0.01)])
def test_additive_vjp_equals_autodiff(dtype, tolerance):
    """Gradients of bfloat16 arguments are summed in float32."""
    queries, keys = normal(1, 2, 8 * T, K).astype(dtype), normal(2, 2, 8 * S, K).astype(dtype)
    arguments, weight = (queries, keys, normal(3, K)), normal(4, 2, 8 * T, 8 * S)

    def formula(queries, keys, v):
        return jnp.tanh(queries[..., :, None, :] + keys[..., None, :, :]) @ v

    _, gradients = logits_and_gradients(additive)(weight, *arguments)
    in_float32 = [x.astype(np.float32) for x in arguments]
    _, expected = logits_and_gradients(formula)(weight, *in_float32)
    for actual, exact, argument in zip(gradients, expected, arguments, strict=True):
        assert actual.dtype == argument.dtype
        error = np.linalg.norm(np.asarray(actual, np.float32) - exact) / np.linalg.norm(exact)
        assert error < tolerance


def test_additive_accepts_a_vector_per_sequence():
    """The gradient of a shared vector is the sum of the gradients per sequence."""
    v, weight = normal(4, K), normal(5, B, T, S)
    run = logits_and_gradients(additive)
    shared_logits, shared = jax.device_get(run(weight, QUERIES, KEYS, v))
    logits, gradients = jax.device_get(run(weight, QUERIES, KEYS, np.tile(v, (B, 1))))
    np.testing.assert_allclose(logits, shared_logits)
    for actual, expected in zip((*gradients[:2], gradients[2].sum(0)), shared, strict=True):
        np.testing.assert_allclose(actual, expected, atol=1e-5)
    weight[0] = 0
    _, second = run(weight, QUERIES, KEYS, v)
    np.testing.assert_allclose(gradients[2][1], second[2], atol=1e-5)


def test_general_accepts_projected_keys():
    keys, matrix = normal(2, B, S, J), normal(3, K, J)
    jit_general = unoptimized_jit(general)
    np.testing.assert_allclose(
        jit_general(QUERIES, keys, matrix), jit_general(QUERIES, keys @ matrix.T), atol=1e-5
    )


def test_content_is_bounded_by_the_key_strength_and_zero_for_zero_vectors():
    keys = np.concatenate([KEYS[0], np.zeros((1, K))])
    queries = np.stack([3 * keys[0], -keys[1], np.zeros(K)])
    run = logits_and_gradients(content)
    logits, gradients = jax.device_get(run(np.ones((3, S + 1)), queries, keys, 2.0))
    np.testing.assert_allclose([logits[0, 0], logits[1, 1]], [2.0, -2.0], rtol=1e-5)
    assert np.abs(logits).max() <= 2.0 + 1e-5
    assert not logits[2].any() and not logits[:, -1].any()
    assert all(np.isfinite(gradient).all() for gradient in gradients)


def test_location_keys_match_positions_in_windows_and_blocks():
    """Windows and blocks must slice the position keys together with the source."""
    keys, queries, values = normal(1, 6, K), normal(2, T, K), normal(3, 6, J)
    logits = naive.dot(queries, keys)
    centers = np.array([5.0, 0.0, 3.0])

    @unoptimized_jit
    def run(queries, keys, values):
        options = {"half_width": 1, "gaussian": False, "score": location}
        valid, positions = jnp.ones(6, bool), jnp.float32(centers)
        contexts, weights = local.attend(queries, keys, values, positions, valid, **options)
        blocks = blockwise.attend(queries, keys, values, score=location, block=2)
        return contexts, local.scatter(weights, positions, 6), blocks

    contexts, weights, blocks = run(queries, keys, values)
    expected = naive.local(logits, centers, 6, 1, gaussian=False)
    np.testing.assert_allclose(weights, expected, atol=1e-6)
    np.testing.assert_allclose(contexts, naive.read(expected, values), atol=1e-5)
    np.testing.assert_allclose(blocks, naive.read(naive.soft(logits), values), atol=1e-5)
