"""Environments as pure functions of keys: a distribution of tasks, each met anew in every trial.

An agent has a trial of several episodes to find its way about one task. The form is that of gymnax,
with what makes a task (its `params`) drawn from a key, so that any environment of that form can be
wrapped. Everything is of one trial; `jax.vmap` makes it thousands.
"""

from collections.abc import Callable
from typing import Any, NamedTuple, Protocol, runtime_checkable

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, PRNGKeyArray

from training.errors import UserError

Params = Any  # of a task: a pytree that stays as it is for a whole trial
EnvState = Any  # of an episode


@runtime_checkable
class Environment(Protocol):
    """What a trial asks of an environment."""

    actions: int  # how many there are to choose from
    channels: int  # C, of an observation
    episodes: int  # of a trial
    steps: int  # T, of a trial
    even: bool  # whether all episodes are of one length

    def task(self, key: PRNGKeyArray) -> Params:
        """Draws what stays the same for a whole trial."""
        ...

    def reset(self, key: PRNGKeyArray, params: Params) -> tuple[EnvState, Float[Array, " C"]]:
        """Begins an episode: its state and the first observation."""
        ...

    def step(
        self, key: PRNGKeyArray, params: Params, state: EnvState, action: Int[Array, ""]
    ) -> tuple[EnvState, Float[Array, " C"], Float[Array, ""], Bool[Array, ""]]:
        """Takes an action: the new state, its observation, the reward, and whether that was all."""
        ...


class Bandit:
    """Arms that pay 1 or nothing, each with a chance from U(0, 1); an episode is one pull.

    Source: Duan et al. 2016, "RL²", sec. 3.1; Mishra et al. 2018, sec. 5.2.1. Nothing is observed.

    Args:
        arms: K.
        pulls: N, of a trial.
    """

    channels, even = 0, True

    def __init__(self, *, arms: int, pulls: int):
        _positive(arms=arms, pulls=pulls)
        self.actions, self.episodes, self.steps = arms, pulls, pulls

    def task(self, key):
        return jax.random.uniform(key, (self.actions,))

    def reset(self, key, params):
        del key, params
        return (), jnp.zeros(0)

    def step(self, key, params, state, action):
        reward = jax.random.bernoulli(key, params[action]).astype(jnp.float32)
        return state, jnp.zeros(0), reward, jnp.array(True)


class MDP(NamedTuple):
    """A Markov decision process of S states and A actions."""

    transitions: Float[Array, "S A S"]
    rewards: Float[Array, "S A"]  # their means; each is drawn with a variance of one


class TabularMDP:
    """Random Markov decision processes whose every episode begins in state 0.

    Transitions are drawn from a flat Dirichlet distribution, mean rewards from N(1, 1), a reward
    from N(mean, 1). Source: Duan et al. 2016, sec. 3.2; Mishra et al. 2018, sec. 5.2.2.

    Args:
        states: S, observed one-hot.
        actions: A.
        horizon: steps of an episode.
        episodes: N.
    """

    even = True

    def __init__(self, *, states: int, actions: int, horizon: int, episodes: int):
        _positive(states=states, actions=actions, horizon=horizon, episodes=episodes)
        self.channels, self.actions, self.horizon = states, actions, horizon
        self.episodes, self.steps = episodes, episodes * horizon

    def task(self, key):
        keys = jax.random.split(key)
        shape = self.channels, self.actions
        # A flat Dirichlet distribution is one of exponential variables, normalised.
        weights = jax.random.exponential(keys[0], (*shape, self.channels))
        transitions = weights / weights.sum(-1, keepdims=True)
        return MDP(transitions, 1.0 + jax.random.normal(keys[1], shape))

    def reset(self, key, params):
        del key, params
        return (jnp.int32(0), jnp.int32(0)), jax.nn.one_hot(0, self.channels)

    def step(self, key, params, state, action):
        place, t = state
        key_place, key_reward = jax.random.split(key)
        reward = params.rewards[place, action] + jax.random.normal(key_reward)
        chances = jnp.cumsum(params.transitions[place, action])
        found = jnp.sum(jax.random.uniform(key_place) * chances[-1] >= chances)
        place = jnp.minimum(found, self.channels - 1)  # should rounding lead past the last
        observation = jax.nn.one_hot(place, self.channels)
        return (place, t + 1), observation, reward, t + 1 == self.horizon


class Labyrinth(NamedTuple):
    """A maze on a grid, with walls as cells of their own."""

    walls: Bool[Array, "G G"]
    start: Int[Array, "2"]
    goal: Int[Array, "2"]


class Maze:
    """A maze with a goal to be found, and then to be found again: a stand-in.

    The papers' agents see pictures of a three-dimensional maze (Mishra et al. 2018, sec. 5.2.4);
    this one sees the eight cells around its own, from above, and whether the goal is among them.
    What the two have in common: exploring pays in the first episode, remembering in the second.
    Rewards are the paper's: 1 at the goal, -0.01 for a step, -0.001 for running into a wall.

    Args:
        rooms: of a side; the rooms and what is between them make a grid of 2 rooms + 1 cells.
        horizon: the most steps of an episode. A trial has twice as many, in which the agent that
            finds the goal early starts again as often as it can.
    """

    actions, channels, even = 4, 18, False
    moves = ((-1, 0), (0, 1), (1, 0), (0, -1))

    def __init__(self, *, rooms: int, horizon: int):
        _positive(rooms=rooms, horizon=horizon)
        if rooms < 2:
            raise UserError("A maze takes at least 2 rooms a side.")
        self.rooms, self.horizon = rooms, horizon
        self.episodes, self.steps = 2, 2 * horizon

    def task(self, key):
        keys = jax.random.split(key)
        n, rooms = self.rooms, jnp.arange(self.rooms)
        row, column = (x.reshape(-1) for x in jnp.meshgrid(rooms, rooms, indexing="ij"))
        # Each room has a door to the north or the west, where there is one: a tree of all rooms.
        north = jax.random.bernoulli(keys[0], 0.5, (n * n,))
        north = jnp.where(row == 0, False, jnp.where(column == 0, True, north))
        has_door = row + column > 0
        door_row = 2 * row + 1 - (north & has_door)
        door_column = 2 * column + 1 - (~north & has_door)
        walls = jnp.ones((2 * n + 1, 2 * n + 1), bool)
        walls = walls.at[2 * row + 1, 2 * column + 1].set(False)
        walls = walls.at[door_row, door_column].set(False)
        start, goal = jax.random.choice(keys[1], n * n, (2,), replace=False)
        at = lambda room: 2 * jnp.stack([room // n, room % n]) + 1
        return Labyrinth(walls, at(start), at(goal))

    def reset(self, key, params):
        del key
        return (params.start, jnp.int32(0)), self._look(params, params.start)

    def step(self, key, params, state, action):
        del key
        place, t = state
        ahead = place + jnp.asarray(self.moves)[action]
        blocked = params.walls[ahead[0], ahead[1]]
        place = jnp.where(blocked, place, ahead)
        found = jnp.all(place == params.goal)
        reward = found - 0.01 - 0.001 * blocked
        done = found | (t + 1 == self.horizon)
        return (place, t + 1), self._look(params, place), reward, done

    def _look(self, params, place):
        """The cells around: which are walls, and which is the goal."""
        around = jax.lax.dynamic_slice(params.walls, place - 1, (3, 3))
        at_goal = jnp.zeros(params.walls.shape).at[params.goal[0], params.goal[1]].set(1.0)
        goal = jax.lax.dynamic_slice(at_goal, place - 1, (3, 3))
        return jnp.concatenate([around.reshape(-1).astype(jnp.float32), goal.reshape(-1)])


class Gymnax:
    """An environment in the form of gymnax, made one of ours.

    Args:
        environment: with `reset(key, params) -> observation, state` and `step(key, state, action,
            params) -> observation, state, reward, done, ...`, such as `gymnax.make` gives.
        task: draws its params from a key.
        actions: how many there are.
        channels: of its observations, flattened.
        episodes: of a trial.
        steps: of a trial.
    """

    even = False

    def __init__(
        self,
        environment: Any,
        task: Callable[[PRNGKeyArray], Params],
        *,
        actions: int,
        channels: int,
        episodes: int,
        steps: int,
    ):
        self.environment, self.task = environment, task
        self.actions, self.channels = actions, channels
        self.episodes, self.steps = episodes, steps

    def reset(self, key, params):
        observation, state = self.environment.reset(key, params)
        return state, _flat(observation)

    def step(self, key, params, state, action):
        observation, state, reward, done = self.environment.step(key, state, action, params)[:4]
        return state, _flat(observation), jnp.float32(reward), jnp.bool_(done)


ENVIRONMENTS: dict[str, Callable[..., Any]] = {
    "bandit": Bandit,
    "mdp": TabularMDP,
    "maze": Maze,
}


def _flat(observation):
    return jnp.ravel(observation).astype(jnp.float32)


def _positive(**sizes):
    for name, size in sizes.items():
        if size < 1:
            raise UserError(f"There must be one of the {name} at least, not {size}.")
