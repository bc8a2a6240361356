"""Trials: batched rollouts of an agent over several episodes of one task."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, Key, PRNGKeyArray

from tasks.meta_rl.environments import Environment, Params


class TimeStep(NamedTuple):
    """Agent input at one step: the observation and the outcome of the previous action."""

    observation: Float[Array, "*B C"]
    action: Int[Array, "*B"]  # previous action; -1 at the first step
    reward: Float[Array, "*B"]  # reward of the previous action
    done: Bool[Array, "*B"]  # whether the previous action ended an episode


class Trials(NamedTuple):
    """Batch of trials. At each step the agent receives `inputs`, acts, and gets the reward."""

    inputs: TimeStep  # [T, B, ...]
    actions: Int[Array, "T B"]
    rewards: Float[Array, "T B"]
    done: Bool[Array, "T B"]
    outputs: Any  # [T, B, ...], further outputs of the agent


# (keys [B], inputs, carry) -> (actions [B], outputs, carry)
Agent = Callable[[Key[Array, " B"], TimeStep, Any], tuple[Int[Array, " B"], Any, Any]]


def trial_keys(key: PRNGKeyArray, indices: Int[Array, " B"]) -> Key[Array, " B"]:
    """Derive the key of each trial from its index, independent of the rest of the batch."""
    return jax.vmap(lambda index: jax.random.fold_in(key, index))(indices)


def sample_tasks(environment: Environment, keys: Key[Array, " B"]) -> Params:
    """Sample the tasks that `rollout` uses for the same keys."""
    return jax.vmap(lambda key: environment.sample_task(jax.random.fold_in(key, 0)))(keys)


def rollout(environment: Environment, keys: Key[Array, " B"], agent: Agent, carry: Any) -> Trials:
    """Run B whole trials in parallel. The next episode starts as soon as the previous one ends.

    Args:
        environment: environment of a single trial.
        keys: one key per trial.
        agent: acts for the whole batch; its carry persists across episodes.
        carry: initial carry of the agent.
    """
    params = sample_tasks(environment, keys)

    def reset(key, params):
        state, observation = environment.reset(jax.random.fold_in(key, 1), params)
        return state, TimeStep(observation, jnp.int32(-1), jnp.float32(0), jnp.array(False))

    def advance(key, params, state, action):
        step_key, reset_key = jax.random.split(key)
        state, observation, reward, done = environment.step(step_key, params, state, action)
        initial = environment.reset(reset_key, params)
        select = lambda new, old: jnp.where(done, new, old.astype(new.dtype))
        state, observation = jax.tree.map(select, initial, (state, observation))
        return state, TimeStep(observation, jnp.int32(action), jnp.float32(reward), done)

    def step(loop_carry, t):
        state, inputs, carry = loop_carry
        step_keys = jax.vmap(lambda key: jax.random.split(jax.random.fold_in(key, t + 2)))(keys)
        actions, outputs, carry = agent(step_keys[:, 0], inputs, carry)
        state, new = jax.vmap(advance)(step_keys[:, 1], params, state, actions)
        return (state, new, carry), Trials(inputs, actions, new.reward, new.done, outputs)

    start = (*jax.vmap(reset)(keys, params), carry)
    return jax.lax.scan(step, start, jnp.arange(environment.num_steps))[1]
