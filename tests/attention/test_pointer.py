"""Pointer attention against loops: probabilities, masks, glimpses and bounded logits."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from attention import additive, dot, log_soft, pointer
from tests import naive
from tests.models.tiny import unoptimized_jit

B, T, S, A = 2, 3, 5, 4
RNG = np.random.default_rng(0)
QUERIES = RNG.normal(size=(B, T, A)).astype(np.float32)
KEYS = RNG.normal(size=(B, S, A)).astype(np.float32)
VECTOR = RNG.normal(size=A).astype(np.float32)
MASK = RNG.random((B, T, S)) < 0.6
MASK[0, 0] = False
MASK[0, 1] = True

jit_log_soft = unoptimized_jit(log_soft)
jit_point = unoptimized_jit(pointer.point, static_argnames=("score", "bound"))
jit_chosen_before = unoptimized_jit(pointer.chosen_before, static_argnums=1)


@pytest.mark.parametrize("bound", [0.0, 10.0, 1.0])
def test_probabilities_equal_loops(bound):
    """Vinyals et al. 2015, sec. 2.3, and Bello et al. 2016, appendix A."""
    logits = jit_point(QUERIES, KEYS, params=VECTOR, mask=MASK, bound=bound)
    actual = np.exp(jit_log_soft(logits))
    for b in range(B):
        expected = naive.additive(QUERIES[b], KEYS[b], VECTOR)
        expected = bound * np.tanh(expected) if bound else expected
        np.testing.assert_allclose(actual[b], naive.soft(expected, MASK[b]), atol=1e-6)


def test_masked_keys_have_zero_probability_and_gradient():

    @unoptimized_jit
    def run(logits, mask):
        def total(logits):
            log_probs = log_soft(logits, mask)
            return jnp.sum(log_probs, where=mask), log_probs

        return jax.grad(total, has_aux=True)(logits)

    gradient, log_probs = jax.device_get(run(np.float32(RNG.normal(size=(B, T, S))), MASK))
    assert np.isneginf(log_probs[~MASK]).all() and np.isfinite(log_probs[MASK]).all()
    assert np.isfinite(gradient).all() and not gradient[~MASK].any()
    # d/du_j of Σ_i log p_i over the m unmasked keys of a row is 1 - m p_j.
    counts = MASK.sum(-1, keepdims=True)
    np.testing.assert_allclose(gradient[MASK], (1 - counts * np.exp(log_probs))[MASK], atol=1e-5)


def test_log_soft_of_bfloat16_sums_in_float32():
    log_probs = jit_log_soft(RNG.normal(size=(1, 1, 300)).astype(jnp.bfloat16))
    assert log_probs.dtype == np.float32
    np.testing.assert_allclose(np.exp(log_probs).sum(), 1.0, rtol=1e-5)


def test_glimpse_is_the_expected_value():
    values = RNG.normal(size=(B, S, 6)).astype(np.float32)
    actual = unoptimized_jit(pointer.glimpse)(QUERIES, KEYS, values, params=VECTOR, mask=MASK)
    for b in range(B):
        weights = naive.soft(naive.additive(QUERIES[b], KEYS[b], VECTOR), MASK[b])
        np.testing.assert_allclose(actual[b], naive.read(weights, values[b]), atol=1e-5)


def test_point_accepts_any_score():
    keys = 3.0 * np.eye(S, dtype=np.float32)[None]
    for score, params in ((dot, None), (additive, np.ones(S, np.float32))):
        logits = jit_point(keys, keys, score=score, params=params)
        # tanh saturates where query and key are both large, which gives the smallest logit.
        best = np.argmax(logits, -1) if score is dot else np.argmin(logits, -1)
        assert best.tolist() == [list(range(S))]


@settings(deadline=None, max_examples=50)
@given(st.lists(st.integers(0, 6), min_size=8, max_size=8))
def test_chosen_before_equals_a_set_of_choices(choices):
    size = 5  # choices 5 and 6 are ignored
    actual = np.asarray(jit_chosen_before(np.array([choices]), size))[0]
    for t in range(len(choices)):
        assert set(np.flatnonzero(actual[t])) == {c for c in choices[:t] if c < size}
