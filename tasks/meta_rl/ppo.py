"""Proximal policy optimisation, as functions of arrays `[B, T]`: B trials of T steps.

Source: Schulman et al. 2017, "Proximal policy optimization algorithms"; advantages from Schulman et
al. 2016, "High-dimensional continuous control using generalized advantage estimation". A trial is
one long episode: what comes after an episode's end is a consequence of what was learned before it.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int


class Experience(NamedTuple):
    """What a policy learns from."""

    inputs: Float[Array, "B T I"]
    actions: Int[Array, "B T"]
    log_probs: Float[Array, "B T"]  # of the actions, when they were taken
    advantages: Float[Array, "B T"]
    returns: Float[Array, "B T"]  # what the values should have been


def generalized_advantages(
    rewards: Float[Array, "B T"], values: Float[Array, "B T"], discount: float, trace: float
) -> Float[Array, "B T"]:
    """`A_t = Σ_k (γλ)^k δ_{t+k}`, `δ_t = r_t + γ V_{t+1} - V_t` (Schulman et al. 2016, eq. 16).

    Args:
        rewards: after each step.
        values: V, before each step; after the last it is zero.
        discount: γ.
        trace: λ.
    """
    after = jnp.pad(values[:, 1:], ((0, 0), (0, 1)))
    deltas = rewards + discount * after - values

    def step(advantage, delta):
        advantage = delta + discount * trace * advantage
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
    """The clipped surrogate, the error of the values and the entropy (Schulman et al. 2017, eq. 9).

    Args:
        logits: of the policy as it is now.
        values: as they are now.
        experience: of the policy as it was.
        clip: ε, how far the ratio of probabilities may move.
        value_weight: c1.
        entropy_weight: c2.

    Returns:
        The loss, and what to watch: its parts, the divergence of the policies, and the share of
        steps whose ratio was clipped.
    """
    change = log_prob(logits, experience.actions) - experience.log_probs
    ratio = jnp.exp(change)
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
        "kl": jnp.mean(ratio - 1.0 - change),  # Schulman's estimate, never negative
        "clipped": jnp.mean(jnp.abs(ratio - 1.0) > clip),
    }
