"""Score, alignment, read and their composition against loops, jax's own attention, and algebra."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from attention import attend, masks, read, scaled_dot, soft
from tests import naive

T, S, K, V = 3, 4, 5, 2
FEW = settings(max_examples=25, deadline=None, derandomize=True)

jitted = jax.jit(attend)


def normal(seed, *shape):
    return jnp.asarray(np.random.default_rng(seed).normal(size=shape), jnp.float32)


def inputs(*batch):
    return normal(1, *batch, T, K), normal(2, *batch, S, K), normal(3, *batch, S, V)


def ragged(*batch):
    """A mask that differs in each row; row 1 of the first sentence sees nothing."""
    mask = np.random.default_rng(4).random((*batch, T, S)) < 0.6
    mask[..., 0, 0] = True
    mask[(0,) * len(batch)][1] = False
    return jnp.asarray(mask)


def test_scaled_dot_equals_loops():
    queries, keys, _ = inputs(2)
    found = jax.jit(scaled_dot)(queries, keys)
    np.testing.assert_allclose(found, naive.rows(naive.scaled_dot, queries, keys), atol=1e-5)


def test_scaled_dot_by_hand():
    queries = jnp.array([[1.0, 2.0, 3.0, 4.0]])
    keys = jnp.array([[1.0, 1.0, 1.0, 1.0], [2.0, 0.0, 0.0, -1.0]])
    np.testing.assert_allclose(jax.jit(scaled_dot)(queries, keys), [[5.0, -1.0]])


def test_soft_by_hand():
    """exp(log 1), exp(log 2), exp(log 5) over 8, then without the last key over 3."""
    logits = jnp.log(jnp.array([[1.0, 2.0, 5.0]]))
    np.testing.assert_allclose(jax.jit(soft)(logits), [[1 / 8, 2 / 8, 5 / 8]], rtol=1e-6)
    mask = jnp.array([[True, True, False]])
    np.testing.assert_allclose(jax.jit(soft)(logits, mask), [[1 / 3, 2 / 3, 0]], rtol=1e-6)


@pytest.mark.parametrize("masked", [False, True])
def test_soft_equals_loops(masked):
    logits, mask = normal(0, 2, T, S), ragged(2) if masked else None
    found = jax.jit(soft)(logits, mask)
    np.testing.assert_allclose(found, naive.rows(naive.soft, logits, mask), atol=1e-6)


def test_soft_does_not_overflow():
    weights = jax.jit(soft)(jnp.array([[1e30, 1e30, -1e30], [-3e38, -3e38, -3e38]]))
    np.testing.assert_allclose(weights, [[0.5, 0.5, 0], [1 / 3] * 3], rtol=1e-6)


def test_read_equals_loops():
    weights, values = normal(0, 2, T, S), normal(1, 2, S, V)
    found = jax.jit(read)(weights, values)
    np.testing.assert_allclose(found, naive.rows(naive.read, weights, values), atol=1e-5)


@pytest.mark.parametrize("masked", [False, True])
def test_attend_equals_loops(masked):
    q, k, v = inputs(2)
    mask = ragged(2) if masked else None
    contexts, weights = jitted(q, k, v, mask=mask)
    np.testing.assert_allclose(contexts, naive.rows(naive.attend, q, k, v, mask), atol=1e-5)
    np.testing.assert_allclose(jax.jit(read)(weights, v), contexts, atol=1e-6)


@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("padded", [False, True])
def test_attend_equals_jax(causal, padded):
    """Jax wants [B, T, H, K]; every row keeps a key, as the two differ by design where none is."""
    b, h = 2, 3
    q, k, v = normal(1, b, h, T, K), normal(2, b, h, S, K), normal(3, b, h, S, K)
    valid = masks.padding(jnp.array([[1, 1, 0, 0], [1, 1, 1, 0]], bool))[:, None]
    mask = masks.combine(valid if padded else None, masks.causal(T, S) if causal else None)

    @jax.jit
    def theirs(q, k, v):
        contexts = jax.nn.dot_product_attention(
            *(x.swapaxes(1, 2) for x in (q, k, v)),
            mask=valid if padded else None,
            is_causal=causal,
            implementation="xla",
        )
        return contexts.swapaxes(1, 2)

    found, _ = jitted(q, k, v, mask=mask)
    np.testing.assert_allclose(found, theirs(q, k, v), atol=1e-5)


@FEW
@given(arrays(np.float32, (T, S), elements=st.floats(-50, 50, width=32)), arrays(bool, (T, S)))
def test_rows_sum_to_one_or_are_zero(logits, mask):
    weights = np.asarray(jax.jit(soft)(logits, mask))
    np.testing.assert_allclose(weights.sum(-1), mask.any(-1), atol=1e-5)
    assert (weights >= 0).all()
    assert (weights[~mask] == 0).all()


@FEW
@given(st.permutations(range(S)), arrays(bool, (T, S)))
def test_order_of_keys_does_not_matter(order, mask):
    q, k, v = inputs()
    order = np.array(order)
    contexts, weights = jitted(q, k, v, mask=mask)
    moved, moved_weights = jitted(
        q, np.asarray(k)[order], np.asarray(v)[order], mask=mask[:, order]
    )
    np.testing.assert_allclose(moved, contexts, atol=1e-5)
    np.testing.assert_allclose(moved_weights, weights[:, order], atol=1e-6)


@FEW
@given(
    arrays(bool, S),
    arrays(np.float32, (S, K), elements=st.floats(-1e6, 1e6, width=32)),
    arrays(np.float32, (S, V), elements=st.floats(-1e6, 1e6, width=32)),
)
def test_what_masked_keys_hold_does_not_matter(valid, other_keys, other_values):
    q, k, v = inputs()
    mask = np.broadcast_to(valid, (T, S))
    k_other = np.where(valid[:, None], k, other_keys)
    v_other = np.where(valid[:, None], v, other_values)
    found = jitted(q, k_other, v_other, mask=mask)
    for one, other in zip(jitted(q, k, v, mask=mask), found, strict=True):
        np.testing.assert_array_equal(one, other)


@jax.jit
def gradients(weight, mask, *arguments):
    """Of a weighted sum of the contexts, by queries, keys and values."""
    return jax.grad(lambda *x: jnp.sum(weight * attend(*x, mask=mask)[0]), (0, 1, 2))(*arguments)


def test_gradients_equal_finite_differences():
    """Differences of the loops in float64, so the tolerance can be tight."""
    arguments, mask, weight = inputs(), ragged(), np.asarray(normal(5, T, V), np.float64)
    given = [np.asarray(x, np.float64) for x in arguments]
    for i, found in enumerate(gradients(weight, mask, *arguments)):

        def loss(x, i=i):
            return np.sum(weight * naive.attend(*given[:i], x, *given[i + 1 :], mask))

        np.testing.assert_allclose(found, naive.gradient(loss, given[i]), atol=1e-5)


def test_a_row_that_sees_nothing_is_zero_and_so_is_its_gradient():
    q, k, v = inputs(2)
    mask = np.ones((2, T, S), bool)
    mask[1] = False
    contexts, weights = jax.device_get(jitted(q, k, v, mask=mask))
    assert not contexts[1].any()
    assert not weights[1].any()
    for gradient in jax.device_get(gradients(normal(5, 2, T, V), mask, q, k, v)):
        assert np.isfinite(gradient).all()
        assert not gradient[1].any()
        assert gradient[0].any()


def test_bfloat16_keeps_the_softmax_in_float32():
    q, k, v = (x.astype(jnp.bfloat16) for x in inputs(2))
    mask = np.asarray(ragged(2))
    contexts, weights = jax.device_get(jitted(q, k, v, mask=mask))
    assert contexts.dtype == jnp.bfloat16
    assert weights.dtype == jnp.float32
    # Rows of weights rounded to 8 bits would miss one by 1e-3.
    np.testing.assert_allclose(weights.sum(-1), mask.any(-1), atol=1e-6)
    reference = naive.rows(naive.attend, q, k, v, mask)
    np.testing.assert_allclose(contexts.astype(np.float32), reference, atol=0.03)


def test_jit_and_vmap_change_nothing():
    q, k, v = inputs(2, 3)
    mask = ragged(2, 3)
    plain = attend(q, k, v, mask=mask)  # op by op

    def one(q, k, v, mask):
        return attend(q, k, v, mask=mask)

    for form in (jax.jit(one), jax.jit(jax.vmap(one)), jax.jit(jax.vmap(jax.vmap(one)))):
        for found, expected in zip(form(q, k, v, mask), plain, strict=True):
            np.testing.assert_allclose(found, expected, atol=1e-6)


def test_any_score_and_alignment_fit():
    """A score with weights and an alignment of another's making, composed by `attend`."""
    q, k, v = normal(1, T, K), normal(2, S, K), normal(3, S, V)

    def additive(queries, keys, params):
        return jnp.tanh(queries[..., :, None, :] + keys[..., None, :, :]) @ params

    def hardest(logits, mask=None):
        return jax.nn.one_hot(jnp.where(mask, logits, -jnp.inf).argmax(-1), S)

    def by(alignment):
        form = jax.jit(partial(attend, score=additive, alignment=alignment))
        return form(q, k, v, params=params, mask=mask)[0]

    params, mask = normal(4, K), masks.causal(T, S)
    logits = np.where(mask, naive.additive(q, k, params), -np.inf)
    soft_weights = naive.soft(logits, mask)
    np.testing.assert_allclose(by(soft), naive.read(soft_weights, np.asarray(v)), atol=1e-5)
    np.testing.assert_allclose(by(hardest), np.asarray(v)[logits.argmax(-1)], atol=1e-6)
