"""Environments as pure functions of PRNG keys, each a distribution over tasks.

An agent has one trial of several episodes to adapt to a sampled task. The interface follows gymnax,
except that the environment also samples the task (its `params`); `Gymnax` wraps any environment
with that interface. All functions are for a single trial and are batched by `jax.vmap`.
"""

from collections.abc import Callable
from typing import Any, NamedTuple, Protocol, runtime_checkable

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, PRNGKeyArray

from training.errors import UserError

Params = Any  # pytree that defines a task, constant during a trial
EnvState = Any  # pytree, the state of an episode


@runtime_checkable
class Environment(Protocol):
    """Interface that `trials.rollout` requires."""

    num_actions: int
    observation_size: int  # C
    num_episodes: int  # per trial
    num_steps: int  # T, per trial
    fixed_length: bool  # whether all episodes have the same length

    def sample_task(self, key: PRNGKeyArray) -> Params:
        """Sample a task."""
        ...

    def reset(self, key: PRNGKeyArray, params: Params) -> tuple[EnvState, Float[Array, " C"]]:
        """Start an episode; returns its state and the first observation."""
        ...

    def step(
        self, key: PRNGKeyArray, params: Params, state: EnvState, action: Int[Array, ""]
    ) -> tuple[EnvState, Float[Array, " C"], Float[Array, ""], Bool[Array, ""]]:
        """Take an action; returns `(state, observation, reward, done)`."""
        ...


class Bandit:
    """Bernoulli bandit with success probabilities from U(0, 1); an episode is one pull.

    There are no observations. Source: Duan et al. 2016, "RL²", sec. 3.1; Mishra et al. 2018, sec.
    5.2.1.

    Args:
        arms: K, number of arms.
        pulls: N, pulls per trial.
    """

    observation_size, fixed_length = 0, True

    def __init__(self, *, arms: int, pulls: int):
        _check_positive(arms=arms, pulls=pulls)
        self.num_actions, self.num_episodes, self.num_steps = arms, pulls, pulls

    def sample_task(self, key):
        return jax.random.uniform(key, (self.num_actions,))

    def reset(self, key, params):
        del key, params
        return (), jnp.zeros(0)

    def step(self, key, params, state, action):
        reward = jax.random.bernoulli(key, params[action]).astype(jnp.float32)
        return state, jnp.zeros(0), reward, jnp.array(True)


class MDP(NamedTuple):
    """Markov decision process with S states and A actions."""

    transitions: Float[Array, "S A S"]
    rewards: Float[Array, "S A"]  # mean rewards; the variance is 1


class TabularMDP:
    """Random Markov decision processes; every episode starts in state 0.

    Transition probabilities are sampled from a flat Dirichlet distribution and mean rewards from
    N(1, 1); rewards are sampled from N(mean, 1). Source: Duan et al. 2016, sec. 3.2; Mishra et al.
    2018, sec. 5.2.2.

    Args:
        states: S, number of states; observations are one-hot.
        actions: A, number of actions.
        horizon: steps per episode.
        episodes: N, episodes per trial.
    """

    fixed_length = True

    def __init__(self, *, states: int, actions: int, horizon: int, episodes: int):
        _check_positive(states=states, actions=actions, horizon=horizon, episodes=episodes)
        self.observation_size, self.num_actions, self.horizon = states, actions, horizon
        self.num_episodes, self.num_steps = episodes, episodes * horizon

    def sample_task(self, key):
        keys = jax.random.split(key)
        shape = self.observation_size, self.num_actions
        # Normalized exponential variables have a flat Dirichlet distribution.
        weights = jax.random.exponential(keys[0], (*shape, self.observation_size))
        transitions = weights / weights.sum(-1, keepdims=True)
        return MDP(transitions, 1.0 + jax.random.normal(keys[1], shape))

    def reset(self, key, params):
        del key, params
        return (jnp.int32(0), jnp.int32(0)), jax.nn.one_hot(0, self.observation_size)

    def step(self, key, params, state, action):
        position, t = state
        transition_key, reward_key = jax.random.split(key)
        reward = params.rewards[position, action] + jax.random.normal(reward_key)
        cumulative = jnp.cumsum(params.transitions[position, action])
        sampled = jnp.sum(jax.random.uniform(transition_key) * cumulative[-1] >= cumulative)
        position = jnp.minimum(sampled, self.observation_size - 1)  # guards against rounding
        observation = jax.nn.one_hot(position, self.observation_size)
        return (position, t + 1), observation, reward, t + 1 == self.horizon


class MazeLayout(NamedTuple):
    """Maze on a grid of tiles, each of which is free or a wall."""

    walls: Bool[Array, "G G"]
    start: Int[Array, "2"]
    goal: Int[Array, "2"]


class Maze:
    """Two-dimensional maze navigation, a substitute for the visual navigation of the papers.

    The papers use images of a three-dimensional maze (Mishra et al. 2018, sec. 5.2.4); here the
    agent observes the walls and the goal in the 3 x 3 tiles around its position. As in the papers,
    the agent must explore in the first episode and remember the goal in the second. The rewards are
    the paper's: 1 at the goal, -0.01 per step, -0.001 for running into a wall.

    Args:
        cells: cells per side; with the walls between them the grid has 2 cells + 1 tiles per side.
        horizon: maximum number of steps per episode. A trial has 2 * horizon steps; when the agent
            reaches the goal early, further episodes start in the remaining steps.
    """

    num_actions, observation_size, fixed_length = 4, 18, False
    moves = ((-1, 0), (0, 1), (1, 0), (0, -1))

    def __init__(self, *, cells: int, horizon: int):
        _check_positive(cells=cells, horizon=horizon)
        if cells < 2:
            raise UserError(f"environment.sizes.cells must be at least 2, not {cells}.")
        self.cells, self.horizon = cells, horizon
        self.num_episodes, self.num_steps = 2, 2 * horizon

    def sample_task(self, key):
        keys = jax.random.split(key)
        n, indices = self.cells, jnp.arange(self.cells)
        row, column = (x.reshape(-1) for x in jnp.meshgrid(indices, indices, indexing="ij"))
        # Binary tree algorithm: each cell but the first is connected to its north or west neighbor.
        north = jax.random.bernoulli(keys[0], 0.5, (n * n,))
        north = jnp.where(row == 0, False, jnp.where(column == 0, True, north))
        connected = row + column > 0
        passage_row = 2 * row + 1 - (north & connected)
        passage_column = 2 * column + 1 - (~north & connected)
        walls = jnp.ones((2 * n + 1, 2 * n + 1), bool)
        walls = walls.at[2 * row + 1, 2 * column + 1].set(False)
        walls = walls.at[passage_row, passage_column].set(False)
        start, goal = jax.random.choice(keys[1], n * n, (2,), replace=False)
        tile = lambda cell: 2 * jnp.stack([cell // n, cell % n]) + 1
        return MazeLayout(walls, tile(start), tile(goal))

    def reset(self, key, params):
        del key
        return (params.start, jnp.int32(0)), self._observe(params, params.start)

    def step(self, key, params, state, action):
        del key
        position, t = state
        target = position + jnp.asarray(self.moves)[action]
        blocked = params.walls[target[0], target[1]]
        position = jnp.where(blocked, position, target)
        at_goal = jnp.all(position == params.goal)
        reward = at_goal - 0.01 - 0.001 * blocked
        done = at_goal | (t + 1 == self.horizon)
        return (position, t + 1), self._observe(params, position), reward, done

    def _observe(self, params, position):
        """Return the walls and the goal in the 3 x 3 tiles around the position."""
        walls = jax.lax.dynamic_slice(params.walls, position - 1, (3, 3))
        goal_map = jnp.zeros(params.walls.shape).at[params.goal[0], params.goal[1]].set(1.0)
        goal = jax.lax.dynamic_slice(goal_map, position - 1, (3, 3))
        return jnp.concatenate([walls.reshape(-1).astype(jnp.float32), goal.reshape(-1)])


class Gymnax:
    """Adapter for environments with the gymnax interface.

    Args:
        environment: has `reset(key, params) -> observation, state` and `step(key, state, action,
            params) -> observation, state, reward, done, ...`, as returned by `gymnax.make`.
        sample_task: samples the params of the environment from a key.
        num_actions: number of actions.
        observation_size: number of elements of an observation.
        num_episodes: episodes per trial.
        num_steps: steps per trial.
    """

    fixed_length = False

    def __init__(
        self,
        environment: Any,
        sample_task: Callable[[PRNGKeyArray], Params],
        *,
        num_actions: int,
        observation_size: int,
        num_episodes: int,
        num_steps: int,
    ):
        self.environment, self.sample_task = environment, sample_task
        self.num_actions, self.observation_size = num_actions, observation_size
        self.num_episodes, self.num_steps = num_episodes, num_steps

    def reset(self, key, params):
        observation, state = self.environment.reset(key, params)
        return state, _flatten(observation)

    def step(self, key, params, state, action):
        observation, state, reward, done = self.environment.step(key, state, action, params)[:4]
        return state, _flatten(observation), jnp.float32(reward), jnp.bool_(done)


ENVIRONMENTS: dict[str, Callable[..., Any]] = {
    "bandit": Bandit,
    "mdp": TabularMDP,
    "maze": Maze,
}


def _flatten(observation):
    return jnp.ravel(observation).astype(jnp.float32)


def _check_positive(**sizes):
    for name, size in sizes.items():
        if size < 1:
            raise UserError(f"environment.sizes.{name} must be at least 1, not {size}.")
