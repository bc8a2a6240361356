"""Trials: an agent and a task, episode after episode, thousands of them in one loop over time."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, Key, PRNGKeyArray

from tasks.meta_rl.environments import Environment, Params


class Seen(NamedTuple):
    """What an agent learns before it acts."""

    observation: Float[Array, "*B C"]
    action: Int[Array, "*B"]  # its last one; -1 before the first
    reward: Float[Array, "*B"]  # that came of it
    done: Bool[Array, "*B"]  # whether an episode ended with it


class Trials(NamedTuple):
    """What happened. What was seen comes before the action, the reward after it."""

    seen: Seen  # [T, B, ...]
    actions: Int[Array, "T B"]
    rewards: Float[Array, "T B"]
    done: Bool[Array, "T B"]
    notes: Any  # [T, B, ...], what the agent had to say


# (keys [B], seen, carry) -> (actions [B], notes, carry)
Agent = Callable[[Key[Array, " B"], Seen, Any], tuple[Int[Array, " B"], Any, Any]]


def row_keys(key: PRNGKeyArray, rows: Int[Array, " B"]) -> Key[Array, " B"]:
    """A key for each trial, which depends on the number of its row and on nothing else."""
    return jax.vmap(lambda row: jax.random.fold_in(key, row))(rows)


def tasks_of(environment: Environment, keys: Key[Array, " B"]) -> Params:
    """The tasks that trials of these keys are about."""
    return jax.vmap(lambda key: environment.task(jax.random.fold_in(key, 0)))(keys)


def play(environment: Environment, keys: Key[Array, " B"], agent: Agent, carry: Any) -> Trials:
    """Whole trials, of B agents side by side. Where an episode ends the next one begins.

    Args:
        environment: of one trial.
        keys: one for each trial.
        agent: acts for all of them; its carry lasts for the whole trial.
        carry: its carry at the start.
    """
    params = tasks_of(environment, keys)

    def begin(key, params):
        state, observation = environment.reset(jax.random.fold_in(key, 1), params)
        return state, Seen(observation, jnp.int32(-1), jnp.float32(0), jnp.array(False))

    def advance(key, params, state, action):
        key_step, key_reset = jax.random.split(key)
        state, observation, reward, done = environment.step(key_step, params, state, action)
        fresh = environment.reset(key_reset, params)
        choose = lambda new, old: jnp.where(done, new, old)
        state, observation = jax.tree.map(choose, fresh, (state, observation))
        return state, Seen(observation, action, reward, done)

    def step(everything, t):
        state, seen, carry = everything
        now = jax.vmap(lambda key: jax.random.split(jax.random.fold_in(key, t + 2)))(keys)
        actions, notes, carry = agent(now[:, 0], seen, carry)
        state, after = jax.vmap(advance)(now[:, 1], params, state, actions)
        happened = Trials(seen, actions, after.reward, after.done, notes)
        return (state, after, carry), happened

    start = (*jax.vmap(begin)(keys, params), carry)
    return jax.lax.scan(step, start, jnp.arange(environment.steps))[1]
