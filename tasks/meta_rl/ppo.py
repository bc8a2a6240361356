"""Proximal policy optimization as functions of arrays `[B, T]`: B trials of T steps.

Source: Schulman et al. 2017, "Proximal policy optimization algorithms"; advantages from Schulman et
al. 2016, "High-dimensional continuous control using generalized advantage estimation". A trial is
treated as one long episode, because exploration in one episode raises the rewards of later ones.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int


class Options(NamedTuple):
    """Hyperparameters of training.

    Attributes:
        discount: γ.
        gae_lambda: λ of the advantages.
        clip: largest deviation of the probability ratio from 1.
        epochs: passes over the trials of a step.
        minibatches: parts of a batch; each gives one optimizer update per epoch.
        value_weight: factor of the squared error of the values in the loss.
        entropy_weight: factor of the entropy bonus at step 0; decays linearly to 0.
        entropy_steps: step at which `entropy_weight` reaches 0.
    """

    discount: float
    gae_lambda: float
    clip: float
    epochs: int
    minibatches: int
    value_weight: float
    entropy_weight: float
    entropy_steps: int


class Experience(NamedTuple):
    """Training data collected by the behavior policy."""

    inputs: Float[Array, "B T I"]
    actions: Int[Array, "B T"]
    log_probs: Float[Array, "B T"]  # of the actions under the behavior policy
    advantages: Float[Array, "B T"]
    returns: Float[Array, "B T"]  # targets of the values


def generalized_advantages(
    rewards: Float[Array, "B T"], values: Float[Array, "B T"], discount: float, gae_lambda: float
) -> Float[Array, "B T"]:
    """`A_t = Σ_k (γλ)^k δ_{t+k}`, `δ_t = r_t + γ V_{t+1} - V_t` (Schulman et al. 2016, eq. 16).

    Args:
        rewards: reward of each step.
        values: V before each step; the value after the last step is zero.
        discount: γ.
        gae_lambda: λ.
    """
    next_values = jnp.pad(values[:, 1:], ((0, 0), (0, 1)))
    deltas = rewards + discount * next_values - values

    def step(advantage, delta):
        advantage = delta + discount * gae_lambda * advantage
        return advantage, advantage

    start = jnp.zeros(len(rewards))
    return jax.lax.scan(step, start, deltas.T, reverse=True)[1].T


def log_prob(logits: Float[Array, "*B A"], actions: Int[Array, "*B"]) -> Float[Array, "*B"]:
    """Log-probability of actions."""
    return jnp.take_along_axis(jax.nn.log_softmax(logits), actions[..., None], axis=-1)[..., 0]


def loss(
    logits: Float[Array, "B T A"],
    values: Float[Array, "B T"],
    experience: Experience,
    *,
    clip: float,
    value_weight: float,
    entropy_weight: Float[Array, ""] | float,
) -> tuple[Float[Array, ""], dict[str, Float[Array, ""]]]:
    """Clipped surrogate objective with value loss and entropy bonus (Schulman et al. 2017, eq. 9).

    Args:
        logits: action logits of the current policy.
        values: values of the current network.
        experience: data collected by the behavior policy.
        clip: ε, range of the probability ratio.
        value_weight: c1.
        entropy_weight: c2.

    Returns:
        The loss, and metrics: its terms, the KL divergence from the behavior policy, and the
        fraction of steps whose ratio is clipped.
    """
    log_ratio = log_prob(logits, experience.actions) - experience.log_probs
    ratio = jnp.exp(log_ratio)
    clipped = jnp.clip(ratio, 1.0 - clip, 1.0 + clip)
    advantages = experience.advantages
    surrogate = jnp.mean(jnp.minimum(ratio * advantages, clipped * advantages))
    value_loss = 0.5 * jnp.mean((values - experience.returns) ** 2)
    log_probs = jax.nn.log_softmax(logits)
    entropy = -jnp.mean(jnp.sum(jnp.exp(log_probs) * log_probs, axis=-1))
    total = -surrogate + value_weight * value_loss - entropy_weight * entropy
    return total, {
        "value_loss": value_loss,
        "entropy": entropy,
        "kl": jnp.mean(ratio - 1.0 - log_ratio),  # low-variance estimator, never negative
        "clip_fraction": jnp.mean(jnp.abs(ratio - 1.0) > clip),
    }
