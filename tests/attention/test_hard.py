"""Hard alignments: distribution of the samples, gradients, and fully masked rows."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np

from attention import argmax, hard, reinforce_loss, soft, straight_through
from tests import naive
from tests.models.tiny import unoptimized_jit

LOGITS = jnp.asarray(np.log([[0.2, 0.5, 0.3], [0.6, 0.1, 0.3]]), jnp.float32)
MASK = jnp.asarray([[True, False, True], [False, False, False]])


def test_samples_have_the_softmax_distribution():
    @unoptimized_jit
    def run(key):
        return jax.vmap(lambda key: hard(LOGITS, key).weights)(jax.random.split(key, 4000))

    samples = np.asarray(run(jax.random.key(0)))
    assert np.all((samples == 0) | (samples == 1)) and np.all(samples.sum(-1) == 1)
    # Four standard deviations of a frequency in 4,000 samples.
    np.testing.assert_allclose(samples.mean(0), np.exp(LOGITS), atol=4 * 0.5 / 4000**0.5)


def test_log_probability_and_entropy_equal_the_softmax():
    sample = unoptimized_jit(hard)(LOGITS, jax.random.key(1))
    p = np.exp(np.asarray(LOGITS, np.float64))
    chosen = np.asarray(sample.weights, bool)
    np.testing.assert_allclose(sample.log_prob, np.log(p[chosen]), rtol=1e-5)
    np.testing.assert_allclose(sample.entropy, -(p * np.log(p)).sum(-1), rtol=1e-5)


def test_masked_keys_are_never_sampled_and_fully_masked_rows_are_zero():
    def run(key):
        def loss(logits):
            sample = hard(logits, key, MASK)
            return jnp.sum(sample.log_prob + sample.entropy), sample

        gradient, sample = jax.grad(loss, has_aux=True)(LOGITS)
        return gradient, sample, straight_through(LOGITS, key, MASK), argmax(LOGITS, MASK)

    run_all = unoptimized_jit(lambda key: jax.vmap(run)(jax.random.split(key, 20)))
    gradients, samples, straight, deterministic = jax.device_get(run_all(jax.random.key(0)))
    assert (samples.weights[:, 0].sum(-1) == 1).all() and not samples.weights[:, 0, 1].any()
    assert not any(field[:, 1].any() for field in (*samples, straight, deterministic))
    assert np.isfinite(gradients).all()
    assert not gradients[:, 1].any() and not gradients[:, 0, 1].any()


def test_argmax_breaks_ties_in_favor_of_the_first_key():
    weights = unoptimized_jit(argmax)(np.array([[1.0, 3.0, 3.0], [-2.0, -1.0, -5.0]]))
    np.testing.assert_array_equal(weights, [[0, 1, 0], [0, 1, 0]])


def test_reinforce_gradient_is_unbiased_for_any_baseline():
    """Exact expectation over all nine outcomes of two samples.

    The distribution of the second sample depends on the first, and the reward on both.
    """
    rng = np.random.default_rng(0)
    logits = rng.normal(size=3), rng.normal(size=(3, 3))
    i, j = np.array(list(itertools.product(range(3), repeat=2))).T
    reward, baseline = jnp.asarray(rng.normal(size=(3, 3))[i, j]), jnp.asarray(rng.normal(size=2))

    def log_probs(logits):  # [9, 2], of both samples in each outcome
        first, second = logits
        return jnp.stack([jax.nn.log_softmax(first)[i], jax.nn.log_softmax(second)[i, j]], -1)

    def expected_reward(logits):
        return jnp.sum(jnp.exp(log_probs(logits).sum(-1)) * reward)

    def expected_loss(logits):
        outcomes = jax.lax.stop_gradient(jnp.exp(log_probs(logits).sum(-1)))
        losses = reinforce_loss(log_probs(logits), reward[:, None], baseline)
        return jnp.sum(outcomes[:, None] * losses)

    exact = unoptimized_jit(jax.grad(expected_reward))(logits)
    estimate = unoptimized_jit(jax.grad(expected_loss))(logits)
    for x, y in zip(jax.device_get(estimate), exact, strict=True):
        np.testing.assert_allclose(-x, y, atol=1e-6)


def test_straight_through_is_one_hot_with_the_gradient_of_the_relaxation():
    key, temperature = jax.random.key(2), 0.7
    values = np.array([[1.0], [10.0], [100.0]])
    noise = np.asarray(jax.random.gumbel(key, LOGITS.shape))

    @unoptimized_jit
    def run(logits):
        def relaxed(logits):
            return jnp.sum(soft((logits + noise) / temperature) @ values)

        def sampled(logits):
            weights = straight_through(logits, key, None, temperature)
            return jnp.sum(weights @ values), weights

        gradient, weights = jax.grad(sampled, has_aux=True)(logits)
        return weights, gradient, *jax.value_and_grad(relaxed)(logits)

    weights, gradient, _, expected = run(LOGITS)
    np.testing.assert_allclose(weights.argmax(-1), np.argmax(LOGITS + noise, -1))
    np.testing.assert_allclose(np.sort(weights), [[0, 0, 1]] * 2, atol=1e-6)
    np.testing.assert_allclose(gradient, expected, rtol=1e-5)
    differences = naive.gradient(lambda x: float(run(x)[2]), LOGITS, step=1e-3)
    np.testing.assert_allclose(gradient, differences, rtol=0.02, atol=0.02)
