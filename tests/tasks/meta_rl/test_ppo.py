"""Advantages and the clipped surrogate against sums by hand."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tasks.meta_rl import ppo

B, T, A = 3, 5, 4
RNG = np.random.default_rng(0)
REWARDS, VALUES = (jnp.asarray(RNG.normal(size=(B, T)), jnp.float32) for _ in range(2))


@pytest.mark.parametrize("trace", [0.0, 0.3, 1.0])
def test_advantages_are_their_sum(trace):
    found = ppo.generalized_advantages(REWARDS, VALUES, 0.9, trace)
    after = np.pad(VALUES[:, 1:], ((0, 0), (0, 1)))
    deltas = np.asarray(REWARDS + 0.9 * after - VALUES)
    for t in range(T):
        expected = sum((0.9 * trace) ** k * deltas[:, t + k] for k in range(T - t))
        np.testing.assert_allclose(found[:, t], expected, rtol=1e-5, atol=1e-6)


def test_with_a_trace_of_one_they_are_returns_less_values():
    found = ppo.generalized_advantages(REWARDS, VALUES, 1.0, 1.0)
    returns = np.cumsum(REWARDS[:, ::-1], axis=1)[:, ::-1]
    np.testing.assert_allclose(found, returns - VALUES, rtol=1e-5, atol=1e-6)


def surrogate(logits, old, actions, advantages):
    zeros = jnp.zeros((B, T))
    experience = ppo.Experience(jnp.zeros((B, T, 1)), actions, old, advantages, zeros)
    options = {"clip": 0.2, "value_weight": 0.5, "entropy_weight": 0.0}
    return ppo.loss(logits, zeros, experience, **options)


def test_at_the_old_policy_the_gradient_is_that_of_reinforce():
    logits = jnp.asarray(RNG.normal(size=(B, T, A)), jnp.float32)
    actions = jnp.asarray(RNG.integers(0, A, (B, T)))
    old = ppo.log_prob(logits, actions)
    found = jax.grad(lambda x: surrogate(x, old, actions, REWARDS)[0])(logits)
    chosen = np.eye(A)[actions] - np.asarray(jax.nn.softmax(logits))
    np.testing.assert_allclose(found, -chosen * REWARDS[..., None] / (B * T), rtol=1e-4, atol=1e-6)
    watched = surrogate(logits, old, actions, REWARDS)[1]
    assert abs(watched["kl"]) < 1e-6 and watched["clipped"] == 0


def test_what_has_moved_too_far_the_right_way_pulls_no_further():
    """A ratio beyond 1 + ε of a good action, or below 1 - ε of a bad one: no gradient."""
    logits, actions = jnp.zeros((B, T, A)), jnp.zeros((B, T), int)
    now = ppo.log_prob(logits, actions)
    slope = jax.jit(
        lambda change, sign: jnp.abs(
            jax.grad(lambda x: surrogate(x, now - change, actions, sign * jnp.ones((B, T)))[0])(
                logits
            )
        ).max()
    )
    assert slope(0.5, 1.0) == 0 and slope(-0.5, -1.0) == 0
    assert slope(-0.5, 1.0) > 0 and slope(0.5, -1.0) > 0


def test_entropy_is_that_of_the_policy():
    watched = surrogate(jnp.zeros((B, T, A)), jnp.zeros((B, T)), jnp.zeros((B, T), int), REWARDS)[1]
    np.testing.assert_allclose(watched["entropy"], np.log(A), rtol=1e-6)


def test_the_loss_is_the_surrogate_the_error_of_values_and_the_entropy():
    """Schulman et al. 2017, eq. 9, negated, with no part of it zero."""
    logits, moved = RNG.normal(size=(B, T, A)), 0.4 * RNG.normal(size=(B, T))
    values, returns, advantages = RNG.normal(size=(3, B, T))
    actions = RNG.integers(0, A, (B, T))
    probs = np.exp(logits) / np.exp(logits).sum(-1, keepdims=True)
    old = np.log(np.take_along_axis(probs, actions[..., None], -1)[..., 0]) - moved
    single = lambda x: jnp.asarray(x, jnp.float32)
    experience = ppo.Experience(
        jnp.zeros((B, T, 1)), jnp.asarray(actions), *map(single, (old, advantages, returns))
    )
    weights = {"value_weight": 0.7, "entropy_weight": 0.3}
    found, watched = ppo.loss(single(logits), single(values), experience, clip=0.2, **weights)

    ratio = np.exp(moved)
    clipped = np.clip(ratio, 0.8, 1.2)
    assert 0 < np.mean(clipped != ratio) < 1
    gain = np.minimum(ratio * advantages, clipped * advantages).mean()
    error, entropy = 0.5 * np.mean((values - returns) ** 2), -(probs * np.log(probs)).sum(-1).mean()
    assert min(abs(gain), error, entropy) > 0.05
    np.testing.assert_allclose(found, -gain + 0.7 * error - 0.3 * entropy, rtol=1e-5)
    np.testing.assert_allclose(watched["value_loss"], error, rtol=1e-5)
    np.testing.assert_allclose(watched["entropy"], entropy, rtol=1e-5)
