"""Pointing against loops in NumPy: probabilities, masks, glimpses and bounds."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from attention import additive, dot, log_soft, pointer
from tests import naive

B, T, S, A = 2, 3, 5, 4
RNG = np.random.default_rng(0)
QUERIES = RNG.normal(size=(B, T, A)).astype(np.float32)
KEYS = RNG.normal(size=(B, S, A)).astype(np.float32)
VECTOR = jnp.asarray(RNG.normal(size=A), jnp.float32)
MASK = RNG.random((B, T, S)) < 0.6
MASK[0, 0] = False  # nothing may be chosen there
MASK[0, 1] = True


def probabilities(logits, mask):
    """Of one row, by the definition of a softmax over what is allowed."""
    allowed = [np.exp(u) if may else 0.0 for u, may in zip(logits, mask, strict=True)]
    total = sum(allowed)
    return [x / total if total else 0.0 for x in allowed]


@pytest.mark.parametrize("bound", [0.0, 10.0, 1.0])
def test_probabilities_are_those_of_the_equation(bound):
    """Vinyals et al. 2015, sec. 2.3, and Bello et al. 2016, appendix A, number by number."""
    pointed = pointer.point(
        *map(jnp.asarray, (QUERIES, KEYS)), params=VECTOR, mask=jnp.asarray(MASK), bound=bound
    )
    found = log_soft(pointed)
    for b in range(B):
        logits = naive.additive(QUERIES[b], KEYS[b], np.asarray(VECTOR))
        logits = bound * np.tanh(logits) if bound else logits
        for t in range(T):
            expected = probabilities(logits[t], MASK[b, t])
            np.testing.assert_allclose(np.exp(found[b, t]), expected, atol=1e-6)


def test_what_is_not_allowed_has_no_probability_and_no_gradient():
    logits = jnp.asarray(RNG.normal(size=(B, T, S)).astype(np.float32))
    found = log_soft(logits, jnp.asarray(MASK))
    assert np.isneginf(found[~MASK]).all() and np.isfinite(found[MASK]).all()
    total = lambda logits: jnp.sum(log_soft(logits, jnp.asarray(MASK)), where=MASK)
    gradient = np.asarray(jax.grad(total)(logits))
    assert np.isfinite(gradient).all() and not gradient[~MASK].any()
    # d/du_j of Σ_i log p_i over a row's m choices is 1 - m p_j.
    counts = MASK.sum(-1, keepdims=True)
    np.testing.assert_allclose(gradient[MASK], (1 - counts * np.exp(found))[MASK], atol=1e-5)


def test_half_precision_is_summed_in_single():
    logits = jnp.asarray(RNG.normal(size=(1, 1, 300)), jnp.bfloat16)
    found = log_soft(logits)
    assert found.dtype == jnp.float32
    np.testing.assert_allclose(jnp.sum(jnp.exp(found)), 1.0, rtol=1e-5)


def test_a_glimpse_is_the_expected_value():
    values = RNG.normal(size=(B, S, 6)).astype(np.float32)
    found = pointer.glimpse(
        *map(jnp.asarray, (QUERIES, KEYS, values)), params=VECTOR, mask=jnp.asarray(MASK)
    )
    for b in range(B):
        logits = naive.additive(QUERIES[b], KEYS[b], np.asarray(VECTOR))
        for t in range(T):
            weights = probabilities(logits[t], MASK[b, t])
            expected = sum(w * v for w, v in zip(weights, values[b], strict=True))
            np.testing.assert_allclose(found[b, t], expected, atol=1e-5)


def test_any_score_points():
    """In favour of the key that is like the query."""
    keys = 3.0 * jnp.eye(S)[None]
    for score, params in ((dot, None), (additive, jnp.ones(S))):
        logits = pointer.point(keys, keys, score=score, params=params)
        best = np.argmax(logits, -1) if score is dot else np.argmin(logits, -1)
        assert best.tolist() == [list(range(S))]  # tanh(q + k) grows least where both are large


@settings(deadline=None, max_examples=50)
@given(st.lists(st.integers(0, 6), min_size=1, max_size=8))
def test_chosen_before_is_what_a_list_holds(choices):
    size = 5  # 5 and 6 choose nothing
    found = np.asarray(pointer.chosen_before(jnp.array([choices]), size))[0]
    for t in range(len(choices)):
        assert set(np.flatnonzero(found[t])) == {c for c in choices[:t] if c < size}
