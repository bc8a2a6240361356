"""Generalized advantages and the PPO loss against NumPy."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tasks.meta_rl import ppo

B, T, A = 3, 5, 4
RNG = np.random.default_rng(0)
REWARDS, VALUES = (jnp.asarray(RNG.normal(size=(B, T)), jnp.float32) for _ in range(2))


@pytest.mark.parametrize("gae_lambda", [0.0, 0.3, 1.0])
def test_generalized_advantages_match_their_definition(gae_lambda):
    advantages = ppo.generalized_advantages(REWARDS, VALUES, 0.9, gae_lambda)
    next_values = np.pad(VALUES[:, 1:], ((0, 0), (0, 1)))
    deltas = np.asarray(REWARDS + 0.9 * next_values - VALUES)
    for t in range(T):
        expected = sum((0.9 * gae_lambda) ** k * deltas[:, t + k] for k in range(T - t))
        np.testing.assert_allclose(advantages[:, t], expected, rtol=1e-5, atol=1e-6)


def test_advantages_with_lambda_one_are_returns_minus_values():
    advantages = ppo.generalized_advantages(REWARDS, VALUES, 1.0, 1.0)
    returns = np.cumsum(REWARDS[:, ::-1], axis=1)[:, ::-1]
    np.testing.assert_allclose(advantages, returns - VALUES, rtol=1e-5, atol=1e-6)


@jax.jit
def surrogate_loss(logits, old_log_probs, actions, advantages):
    """Compute the surrogate loss without value and entropy terms, and the metrics."""
    zeros = jnp.zeros((B, T))
    experience = ppo.Experience(jnp.zeros((B, T, 1)), actions, old_log_probs, advantages, zeros)
    options = {"clip": 0.2, "value_weight": 0.5, "entropy_weight": 0.0}
    return ppo.loss(logits, zeros, experience, **options)


surrogate_gradient = jax.jit(jax.grad(surrogate_loss, has_aux=True))


def test_gradient_at_the_behavior_policy_equals_reinforce():
    logits = jnp.asarray(RNG.normal(size=(B, T, A)), jnp.float32)
    actions = jnp.asarray(RNG.integers(0, A, (B, T)), jnp.int32)
    old_log_probs = ppo.log_prob(logits, actions)
    gradient, metrics = surrogate_gradient(logits, old_log_probs, actions, REWARDS)
    score = np.eye(A)[actions] - np.asarray(jax.nn.softmax(logits))
    expected = -score * REWARDS[..., None] / (B * T)
    np.testing.assert_allclose(gradient, expected, rtol=1e-4, atol=1e-6)
    assert abs(metrics["kl"]) < 1e-6 and metrics["clip_fraction"] == 0


@pytest.mark.parametrize(
    ("log_ratio", "advantage", "clipped"),
    [(0.5, 1.0, True), (-0.5, -1.0, True), (-0.5, 1.0, False), (0.5, -1.0, False)],
)
def test_gradient_is_zero_where_the_ratio_is_clipped(log_ratio, advantage, clipped):
    logits, actions = jnp.zeros((B, T, A)), jnp.zeros((B, T), jnp.int32)
    old_log_probs = ppo.log_prob(logits, actions) - log_ratio
    gradient, _ = surrogate_gradient(logits, old_log_probs, actions, jnp.full((B, T), advantage))
    assert (np.abs(gradient).max() == 0) == clipped


def test_entropy_of_the_uniform_policy_is_the_log_of_the_action_count():
    zeros = jnp.zeros((B, T))
    metrics = surrogate_loss(jnp.zeros((B, T, A)), zeros, zeros.astype(jnp.int32), REWARDS)[1]
    np.testing.assert_allclose(metrics["entropy"], np.log(A), rtol=1e-6)


def test_loss_combines_surrogate_value_loss_and_entropy():
    """Schulman et al. 2017, eq. 9, negated, with all three terms nonzero."""
    logits, log_ratio = RNG.normal(size=(B, T, A)), 0.4 * RNG.normal(size=(B, T))
    values, returns, advantages = RNG.normal(size=(3, B, T))
    actions = RNG.integers(0, A, (B, T))
    probs = np.exp(logits) / np.exp(logits).sum(-1, keepdims=True)
    old_log_probs = np.log(np.take_along_axis(probs, actions[..., None], -1)[..., 0]) - log_ratio
    float32 = lambda x: jnp.asarray(x, jnp.float32)
    experience = ppo.Experience(
        jnp.zeros((B, T, 1)),
        jnp.asarray(actions),
        *map(float32, (old_log_probs, advantages, returns)),
    )
    weights = {"value_weight": 0.7, "entropy_weight": 0.3}
    loss, metrics = ppo.loss(float32(logits), float32(values), experience, clip=0.2, **weights)

    ratio = np.exp(log_ratio)
    clipped = np.clip(ratio, 0.8, 1.2)
    assert 0 < np.mean(clipped != ratio) < 1
    surrogate = np.minimum(ratio * advantages, clipped * advantages).mean()
    value_loss = 0.5 * np.mean((values - returns) ** 2)
    entropy = -(probs * np.log(probs)).sum(-1).mean()
    assert min(abs(surrogate), value_loss, entropy) > 0.05
    np.testing.assert_allclose(loss, -surrogate + 0.7 * value_loss - 0.3 * entropy, rtol=1e-5)
    np.testing.assert_allclose(metrics["value_loss"], value_loss, rtol=1e-5)
    np.testing.assert_allclose(metrics["entropy"], entropy, rtol=1e-5)
