"""Score, alignment, read and `attend` against loops, against JAX's attention, and invariances."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from attention import attend, read, scaled_dot, soft
from tests import naive
from tests.models.tiny import unoptimized_jit

T, S, K, V = 3, 4, 5, 2
few_examples = settings(max_examples=25, deadline=None, derandomize=True)

jit_attend = unoptimized_jit(attend)
jit_soft = unoptimized_jit(soft)
jit_read = unoptimized_jit(read)
jit_scaled_dot = unoptimized_jit(scaled_dot)


def normal(seed, *shape):
    return np.float32(np.random.default_rng(seed).normal(size=shape))


def inputs(*batch):
    return normal(1, *batch, T, K), normal(2, *batch, S, K), normal(3, *batch, S, V)


def ragged_mask(*batch):
    """Random mask; query 1 of the first example is fully masked."""
    mask = np.random.default_rng(4).random((*batch, T, S)) < 0.6
    mask[..., 0, 0] = True
    mask[(0,) * len(batch)][1] = False
    return mask


@unoptimized_jit
def gradients(weight, mask, *arguments):
    """Gradients of a weighted sum of the contexts with respect to queries, keys and values."""
    return jax.grad(lambda *x: jnp.sum(weight * attend(*x, mask=mask)[0]), (0, 1, 2))(*arguments)


def test_scaled_dot_equals_loops():
    queries, keys, _ = inputs(2)
    actual = jit_scaled_dot(queries, keys)
    np.testing.assert_allclose(actual, naive.map_batch(naive.scaled_dot, queries, keys), atol=1e-5)


def test_scaled_dot_equals_hand_computed_values():
    queries = np.array([[1.0, 2.0, 3.0, 4.0]])
    keys = np.array([[1.0, 1.0, 1.0, 1.0], [2.0, 0.0, 0.0, -1.0]])
    np.testing.assert_allclose(jit_scaled_dot(queries, keys), [[5.0, -1.0]])


def test_soft_equals_hand_computed_values():
    logits = np.log([[1.0, 2.0, 5.0]])
    np.testing.assert_allclose(jit_soft(logits), [[1 / 8, 2 / 8, 5 / 8]], rtol=1e-6)
    mask = np.array([[True, True, False]])
    np.testing.assert_allclose(jit_soft(logits, mask), [[1 / 3, 2 / 3, 0]], rtol=1e-6)


@pytest.mark.parametrize("masked", [False, True])
def test_soft_equals_loops(masked):
    logits, mask = normal(0, 2, T, S), ragged_mask(2) if masked else None
    expected = naive.map_batch(naive.soft, logits, mask)
    np.testing.assert_allclose(jit_soft(logits, mask), expected, atol=1e-6)


def test_soft_does_not_overflow():
    weights = jit_soft(np.array([[1e30, 1e30, -1e30], [-3e38, -3e38, -3e38]]))
    np.testing.assert_allclose(weights, [[0.5, 0.5, 0], [1 / 3] * 3], rtol=1e-6)


def test_read_equals_loops():
    weights, values = normal(0, 2, T, S), normal(1, 2, S, V)
    expected = naive.map_batch(naive.read, weights, values)
    np.testing.assert_allclose(jit_read(weights, values), expected, atol=1e-5)


@pytest.mark.parametrize("masked", [False, True])
def test_attend_equals_loops(masked):
    q, k, v = inputs(2)
    mask = ragged_mask(2) if masked else None
    contexts, weights = jit_attend(q, k, v, mask=mask)
    np.testing.assert_allclose(contexts, naive.map_batch(naive.attend, q, k, v, mask), atol=1e-5)
    np.testing.assert_allclose(jit_read(weights, v), contexts, atol=1e-6)


@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("padded", [False, True])
def test_attend_equals_jax(causal, padded):
    """Every query has an unmasked key, because JAX does not return zeros for fully masked rows."""
    b, h = 2, 3
    q, k, v = normal(1, b, h, T, K), normal(2, b, h, S, K), normal(3, b, h, S, K)
    valid = np.array([[1, 1, 0, 0], [1, 1, 1, 0]], bool)[:, None, None]
    mask = np.tri(T, S, dtype=bool) if causal else None
    if padded:
        mask = valid if mask is None else valid & mask

    @unoptimized_jit
    def jax_attention(q, k, v):
        contexts = jax.nn.dot_product_attention(
            *(x.swapaxes(1, 2) for x in (q, k, v)),  # [B, T, H, K]
            mask=valid if padded else None,
            is_causal=causal,
            implementation="xla",
        )
        return contexts.swapaxes(1, 2)

    actual, _ = jit_attend(q, k, v, mask=mask)
    np.testing.assert_allclose(actual, jax_attention(q, k, v), atol=1e-5)


@few_examples
@given(arrays(np.float32, (T, S), elements=st.floats(-50, 50, width=32)), arrays(bool, (T, S)))
def test_rows_of_weights_sum_to_one_or_are_zero(logits, mask):
    weights = np.asarray(jit_soft(logits, mask))
    np.testing.assert_allclose(weights.sum(-1), mask.any(-1), atol=1e-5)
    assert (weights >= 0).all()
    assert (weights[~mask] == 0).all()


@few_examples
@given(st.permutations(range(S)), arrays(bool, (T, S)))
def test_attend_is_equivariant_to_the_order_of_keys(order, mask):
    q, k, v = inputs()
    order = np.array(order)
    contexts, weights = jit_attend(q, k, v, mask=mask)
    permuted, permuted_weights = jit_attend(q, k[order], v[order], mask=mask[:, order])
    np.testing.assert_allclose(permuted, contexts, atol=1e-5)
    np.testing.assert_allclose(permuted_weights, weights[:, order], atol=1e-6)


@few_examples
@given(
    arrays(bool, S),
    arrays(np.float32, (S, K), elements=st.floats(-1e6, 1e6, width=32)),
    arrays(np.float32, (S, V), elements=st.floats(-1e6, 1e6, width=32)),
)
def test_attend_is_invariant_to_masked_keys_and_values(valid, other_keys, other_values):
    q, k, v = inputs()
    mask = np.broadcast_to(valid, (T, S))
    k_other = np.where(valid[:, None], k, other_keys)
    v_other = np.where(valid[:, None], v, other_values)
    actual = jit_attend(q, k_other, v_other, mask=mask)
    for x, y in zip(jit_attend(q, k, v, mask=mask), actual, strict=True):
        np.testing.assert_array_equal(x, y)


def test_gradients_equal_finite_differences():
    """Finite differences of the float64 loops permit a small tolerance."""
    arguments, mask, weight = inputs(), ragged_mask(), np.asarray(normal(5, T, V), np.float64)
    arrays = [np.asarray(x, np.float64) for x in arguments]
    for i, actual in enumerate(gradients(weight, mask, *arguments)):

        def loss(x, i=i):
            return np.sum(weight * naive.attend(*arrays[:i], x, *arrays[i + 1 :], mask))

        np.testing.assert_allclose(actual, naive.gradient(loss, arrays[i]), atol=1e-5)


def test_fully_masked_example_has_zero_contexts_and_gradients():
    q, k, v = inputs(2)
    mask = np.ones((2, T, S), bool)
    mask[1] = False
    contexts, weights = jax.device_get(jit_attend(q, k, v, mask=mask))
    assert not contexts[1].any()
    assert not weights[1].any()
    for gradient in jax.device_get(gradients(normal(5, 2, T, V), mask, q, k, v)):
        assert np.isfinite(gradient).all()
        assert not gradient[1].any()
        assert gradient[0].any()


def test_bfloat16_inputs_have_float32_weights():
    q, k, v = (x.astype(jnp.bfloat16) for x in inputs(2))
    mask = np.asarray(ragged_mask(2))
    contexts, weights = jax.device_get(jit_attend(q, k, v, mask=mask))
    assert contexts.dtype == jnp.bfloat16
    assert weights.dtype == jnp.float32
    # The sum of weights rounded to bfloat16 would have an error of 1e-3.
    np.testing.assert_allclose(weights.sum(-1), mask.any(-1), atol=1e-6)
    expected = naive.map_batch(naive.attend, q, k, v, mask)
    np.testing.assert_allclose(contexts.astype(np.float32), expected, atol=0.03)


def test_jit_and_vmap_equal_eager_evaluation():
    q, k, v = inputs(2, 3)
    mask = ragged_mask(2, 3)
    expected = attend(*map(jnp.asarray, (q, k, v)), mask=jnp.asarray(mask))
    vmapped = unoptimized_jit(jax.vmap(jax.vmap(lambda q, k, v, mask: attend(q, k, v, mask=mask))))
    for actual in (jit_attend(q, k, v, mask=mask), vmapped(q, k, v, mask)):
        for x, y in zip(actual, expected, strict=True):
            np.testing.assert_allclose(x, y, atol=1e-6)


def test_attend_accepts_user_defined_score_and_alignment():
    q, k, v = normal(1, T, K), normal(2, S, K), normal(3, S, V)
    params, mask = normal(4, K), np.tri(T, S, dtype=bool)

    def additive(queries, keys, params):
        return jnp.tanh(queries[..., :, None, :] + keys[..., None, :, :]) @ params

    def argmax(logits, mask=None):
        return jax.nn.one_hot(jnp.where(mask, logits, -jnp.inf).argmax(-1), S)

    def contexts(alignment):
        function = unoptimized_jit(partial(attend, score=additive, alignment=alignment))
        return function(q, k, v, params=params, mask=mask)[0]

    logits = np.where(mask, naive.additive(q, k, params), -np.inf)
    expected = naive.read(naive.soft(logits, mask), v)
    np.testing.assert_allclose(contexts(soft), expected, atol=1e-5)
    np.testing.assert_allclose(contexts(argmax), v[logits.argmax(-1)], atol=1e-6)
