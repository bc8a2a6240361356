"""Each score against a loop of its paper's equation; its gradients; what must not matter."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from attention import additive, attend, blockwise, content, dot, general, local, location
from tests import naive

T, S, K, J = 3, 4, 5, 2
FEW = settings(max_examples=15, deadline=None, derandomize=True)


def normal(seed, *shape):
    return jnp.asarray(np.random.default_rng(seed).normal(size=shape), jnp.float32)


# Score, its loops, and its weights.
SCORES = {
    "dot": (dot, naive.dot, ()),
    "location": (location, naive.dot, ()),
    "general": (general, naive.general, (normal(9, K, K),)),
    "content": (content, naive.content, (normal(9, T) ** 2,)),
    "additive": (additive, naive.additive, (normal(9, K),)),
}
each = pytest.mark.parametrize("score, loops, params", SCORES.values(), ids=SCORES)


@each
def test_equals_loops(score, loops, params):
    queries, keys = normal(1, 2, T, K), normal(2, 2, S, K)
    found = jax.jit(score)(queries, keys, *params)
    assert found.dtype == jnp.float32
    expected = naive.rows(lambda q, k: loops(q, k, *params), queries, keys)
    np.testing.assert_allclose(found, expected, atol=1e-5)


@each
def test_gradients_equal_finite_differences(score, loops, params):
    """Of the loops in float64."""
    arguments = (normal(1, T, K), normal(2, S, K), *params)
    weight = normal(3, T, S)
    over = tuple(range(len(arguments)))
    found = jax.jit(jax.grad(lambda *x: jnp.sum(weight * score(*x)), over))(*arguments)
    for i in over:
        given = [np.asarray(x, np.float64) for x in arguments]

        def loss(x, i=i, given=given):
            return np.sum(np.asarray(weight) * loops(*given[:i], x, *given[i + 1 :]))

        np.testing.assert_allclose(found[i], naive.gradient(loss, given[i]), atol=2e-5)


@each
def test_in_bfloat16_logits_are_float32_and_near(score, loops, params):
    queries, keys = (x.astype(jnp.bfloat16) for x in (normal(1, T, K), normal(2, S, K)))
    found = jax.jit(score)(queries, keys, *params)
    assert found.dtype == jnp.float32
    exact = loops(*(np.asarray(x, np.float64) for x in (queries, keys)), *params)
    np.testing.assert_allclose(found, exact, atol=0.08)


@each
@FEW
@given(order=st.permutations(range(S)))
def test_keys_are_scored_one_by_one(score, loops, params, order):
    """In any order, and whatever the others are: so padding cannot change a logit."""
    queries, keys = normal(1, T, K), normal(2, S, K)
    found = jax.jit(score)(queries, keys[np.array(order)], *params)
    np.testing.assert_allclose(found, score(queries, keys, *params)[:, np.array(order)], atol=1e-5)


@pytest.mark.parametrize("dtype, tolerance", [(jnp.float32, 1e-6), (jnp.bfloat16, 0.01)])
def test_additive_has_the_derivative_of_its_formula(dtype, tolerance):
    """In bfloat16 within the rounding of the hidden layer, and summed in float32."""
    queries, keys = normal(1, 2, 8 * T, K).astype(dtype), normal(2, 2, 8 * S, K).astype(dtype)
    arguments, weight = (queries, keys, normal(3, K)), normal(4, 2, 8 * T, 8 * S)

    def formula(queries, keys, vector):
        return jnp.tanh(queries[..., :, None, :] + keys[..., None, :, :]) @ vector

    gradients = jax.jit(lambda *x: jax.vjp(additive, *x)[1](weight))(*arguments)
    wide = [x.astype(jnp.float32) for x in arguments]
    expected = jax.jit(lambda *x: jax.vjp(formula, *x)[1](weight))(*wide)
    for found, exact, argument in zip(gradients, expected, arguments, strict=True):
        assert found.dtype == argument.dtype
        error = np.linalg.norm(np.asarray(found, np.float32) - exact) / np.linalg.norm(exact)
        assert error < tolerance


@each
def test_a_query_that_sees_nothing_reads_zeros_and_has_no_gradient(score, loops, params):
    mask = jnp.array([[True] * S, [False] * S, [True, False, False, True]])

    @jax.jit
    def run(*inputs):
        form = lambda q, k, v, *p: attend(q, k, v, score=score, params=(*p, None)[0], mask=mask)[0]
        contexts, pull = jax.vjp(form, *inputs)
        return contexts, pull(jnp.cos(contexts))

    contexts, gradients = run(normal(1, T, K), normal(2, S, K), normal(3, S, J), *params)
    assert not contexts[1].any() and not gradients[0][1].any()
    assert all(jnp.isfinite(gradient).all() for gradient in gradients)
    assert gradients[0][0].any()


def test_general_takes_keys_that_have_met_its_matrix_or_not():
    queries, keys, matrix = normal(1, 2, T, K), normal(2, 2, S, J), normal(3, K, J)
    np.testing.assert_allclose(
        general(queries, keys, matrix), general(queries, keys @ matrix.T), atol=1e-5
    )


def test_content_is_a_cosine_at_most_its_sharpness_and_nothing_for_nothing():
    keys = jnp.concatenate([normal(2, S, K), jnp.zeros((1, K))])
    queries = jnp.stack([3 * keys[0], -keys[1], jnp.zeros(K)])
    form = lambda *x: content(*x, jnp.float32(2.0))
    logits = jax.jit(form)(queries, keys)
    np.testing.assert_allclose([logits[0, 0], logits[1, 1]], [2.0, -2.0], rtol=1e-5)
    assert jnp.abs(logits).max() <= 2.0 + 1e-5
    assert not logits[2].any() and not logits[:, -1].any()
    for gradient in jax.jit(jax.grad(lambda *x: form(*x).sum(), (0, 1)))(queries, keys):
        assert jnp.isfinite(gradient).all()


def test_location_finds_its_positions_through_windows_and_blocks():
    """The keys are the positions' own, so a part of them must not be taken for the first ones."""
    rows, queries, values = normal(1, 6, K), normal(2, T, K), normal(3, 6, J)
    whole = naive.dot(queries, rows)
    centres = jnp.array([5.0, 0.0, 3.0])
    found, weights = local.attend(
        queries,
        rows,
        values,
        centres,
        jnp.ones(6, bool),
        half_width=1,
        gaussian=False,
        score=location,
    )
    expected = naive.local(whole, centres, 6, 1, gaussian=False)
    np.testing.assert_allclose(local.scattered(weights, centres, 6), expected, atol=1e-6)
    np.testing.assert_allclose(found, naive.read(expected, values), atol=1e-5)
    found = blockwise.attend(queries, rows, values, score=location, block=2)
    np.testing.assert_allclose(found, naive.read(naive.soft(whole), values), atol=1e-5)


@each
def test_attention_by_it_equals_loops(score, loops, params):
    queries, keys, values = normal(1, 1, T, K), normal(2, 1, S, K), normal(3, 1, S, J)
    mask = jnp.array([[True, True, False, True]])
    form = jax.jit(partial(attend, score=score))
    contexts, _ = form(queries, keys, values, params=params[0] if params else None, mask=mask)
    logits = loops(queries[0], keys[0], *params)
    weights = naive.soft(logits, np.broadcast_to(mask, logits.shape))
    np.testing.assert_allclose(contexts[0], naive.read(weights, values[0]), atol=1e-5)


def test_additive_takes_a_vector_for_each_sequence():
    """The sum of their gradients is that of one for all."""
    queries, keys, vector, weight = (
        normal(n, *shape) for n, shape in enumerate([(2, T, K), (2, S, K), (K,), (2, T, S)])
    )
    vectors = jnp.broadcast_to(vector, (2, K))
    loss = lambda *x: jnp.sum(weight * additive(*x))
    arguments = (0, 1, 2)
    one = jax.grad(loss, arguments)(queries, keys, vector)
    each = jax.grad(loss, arguments)(queries, keys, vectors)
    np.testing.assert_allclose(additive(queries, keys, vectors), additive(queries, keys, vector))
    for found, expected in zip((*each[:2], each[2].sum(0)), one, strict=True):
        np.testing.assert_allclose(found, expected, atol=1e-5)
    alone = jax.grad(lambda v: jnp.sum(weight[1] * additive(queries[1], keys[1], v)))(vector)
    np.testing.assert_allclose(each[2][1], alone, atol=1e-5)
