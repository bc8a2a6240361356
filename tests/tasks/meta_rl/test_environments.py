"""Environments and rollouts against simulations in plain Python from the same keys."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tasks.meta_rl.environments import Bandit, Gymnax, Maze, MazeLayout, TabularMDP
from tasks.meta_rl.trials import rollout, sample_tasks, trial_keys
from tests.commands import fast_compilation
from training.errors import UserError

B = 3
KEYS = trial_keys(jax.random.key(7), jnp.arange(B))
ENVIRONMENTS = {
    "bandit": Bandit(arms=3, pulls=6),
    "mdp": TabularMDP(states=4, actions=2, horizon=3, episodes=2),
    "maze": Maze(cells=3, horizon=9),
}


@pytest.fixture(autouse=True, scope="module")
def _fast_compilation():
    with fast_compilation():
        yield


def random_rollout(kind, keys):
    """Tasks and trials of a random agent that outputs the number of its previous steps."""
    environment = ENVIRONMENTS[kind]

    def act(keys, inputs, t):
        sample = lambda key: jax.random.randint(key, (), 0, environment.num_actions)
        return jax.vmap(sample)(keys), t, t + 1

    def run(keys):
        trials = rollout(environment, keys, act, jnp.int32(0))
        return sample_tasks(environment, keys), trials

    return jax.device_get(jax.jit(run)(keys))


@pytest.fixture(scope="module")
def mdp_trials():
    return random_rollout("mdp", KEYS)


@jax.jit
def environment_keys(keys):
    """Key of `Environment.step` at each step of each trial: `[B, 18]`."""
    step_key = lambda key, t: jax.random.split(jax.random.split(jax.random.fold_in(key, t + 2))[1])
    return jax.vmap(lambda key: jax.vmap(lambda t: step_key(key, t)[0])(jnp.arange(18)))(keys)


def simulate_bandit(params, key, state, action):
    return None, [], float(jax.random.uniform(key) < params[action]), True


def simulate_mdp(params, key, state, action):
    position, t = state or (0, 0)
    transition_key, reward_key = jax.random.split(key)
    reward = params.rewards[position][action] + float(jax.random.normal(reward_key))
    uniform = float(jax.random.uniform(transition_key))
    cumulative = itertools.accumulate(params.transitions[position][action])
    position = next(n for n, total in enumerate(cumulative) if uniform < total)
    return (position, t + 1), [float(position == n) for n in range(4)], reward, t + 1 == 3


def simulate_maze(params, key, state, action):
    (row, column), t = state or (tuple(params.start), 0)
    targets = [(row - 1, column), (row, column + 1), (row + 1, column), (row, column - 1)]
    blocked = params.walls[targets[action]]
    row, column = (row, column) if blocked else targets[action]
    tiles = [(row + i, column + j) for i in (-1, 0, 1) for j in (-1, 0, 1)]
    walls = [float(params.walls[tile]) for tile in tiles]
    goal = [float(tile == tuple(params.goal)) for tile in tiles]
    at_goal = (row, column) == tuple(params.goal)
    reward = at_goal - 0.01 - 0.001 * blocked
    return ((row, column), t + 1), walls + goal, reward, at_goal or t + 1 == 9


SIMULATIONS = {"bandit": simulate_bandit, "mdp": simulate_mdp, "maze": simulate_maze}


@pytest.mark.parametrize("kind", ENVIRONMENTS)
def test_rollout_matches_simulation(kind):
    params, trials = random_rollout(kind, KEYS)
    keys, index = environment_keys(KEYS), lambda tree, *i: jax.tree.map(lambda x: x[i], tree)
    for b in range(B):
        task, state = index(params, b), None
        for t in range(ENVIRONMENTS[kind].num_steps):
            action = int(trials.actions[t, b])
            state, observation, reward, done = SIMULATIONS[kind](task, keys[b, t], state, action)
            np.testing.assert_allclose(trials.rewards[t, b], reward, rtol=1e-5)
            assert bool(trials.done[t, b]) == done
            state = None if done else state
            if t + 1 == ENVIRONMENTS[kind].num_steps:
                break
            following = index(trials.inputs, t + 1, b)
            assert (int(following.action), bool(following.done)) == (action, done)
            np.testing.assert_allclose(following.reward, reward, rtol=1e-5)
            if not done:
                np.testing.assert_allclose(following.observation, observation)
    first = index(trials.inputs, 0)
    assert np.all(first.action == -1) and not first.reward.any() and not first.done.any()


def test_agent_carry_persists_across_episodes(mdp_trials):
    np.testing.assert_array_equal(mdp_trials[1].outputs, np.arange(6))


def test_trial_does_not_depend_on_the_batch(mdp_trials):
    _, trials = random_rollout("mdp", KEYS[1:2])
    np.testing.assert_array_equal(trials.rewards[:, 0], mdp_trials[1].rewards[:, 1])


def sample(environment, count, seed):
    keys = trial_keys(jax.random.key(seed), jnp.arange(count))
    return jax.device_get(jax.jit(lambda keys: sample_tasks(environment, keys))(keys))


def test_sampled_tasks_have_the_documented_distributions():
    """Flat Dirichlet: mean 1/S, variance (S - 1) / (S² (S + 1)); mean rewards N(1, 1)."""
    mdps = sample(TabularMDP(states=10, actions=5, horizon=10, episodes=1), 300, seed=0)
    np.testing.assert_allclose(mdps.transitions.sum(-1), 1.0, atol=1e-5)
    np.testing.assert_allclose(mdps.transitions.var(), 9 / 1100, rtol=0.03)
    np.testing.assert_allclose([mdps.rewards.mean(), mdps.rewards.var()], 1.0, atol=0.03)
    probabilities = sample(Bandit(arms=50, pulls=1), 300, seed=0)
    histogram = np.histogram(probabilities, 4, (0, 1))[0] / probabilities.size
    np.testing.assert_allclose(histogram, 0.25, atol=0.02)


def test_maze_is_a_spanning_tree_of_its_cells():
    """Every cell is reachable from the start, along exactly one path."""
    mazes: MazeLayout = sample(Maze(cells=4, horizon=1), 50, seed=1)
    for walls, start, goal in zip(*mazes, strict=True):
        assert walls[[0, -1]].all() and walls[:, [0, -1]].all() and tuple(start) != tuple(goal)
        reached, frontier = set(), {tuple(start)}
        while frontier:
            reached |= frontier
            moves = ((0, 1), (1, 0), (0, -1), (-1, 0))
            neighbors = {(r + i, c + j) for r, c in frontier for i, j in moves}
            frontier = {tile for tile in neighbors if not walls[tile]} - reached
        assert len(reached) == (~walls).sum() == 2 * 16 - 1 and tuple(goal) in reached
        assert {(2 * r + 1, 2 * c + 1) for r in range(4) for c in range(4)} <= reached


class Corridor:
    """Gymnax environment: walk to the right end of a corridor whose length is a parameter."""

    def reset(self, key, params):
        del key, params
        return jnp.zeros((1, 1)), jnp.int32(0)

    def step(self, key, state, action, params):
        del key
        state = jnp.where(action == 1, state + 1, jnp.maximum(state - 1, 0))
        done = state == params
        return jnp.full((1, 1), state / 4), state, done * 1.0, done, {"discount": 1.0 - done}


def test_rollout_supports_gymnax_environments():
    environment = Gymnax(
        Corridor(),
        lambda key: jax.random.randint(key, (), 2, 5),
        num_actions=2,
        observation_size=1,
        num_episodes=3,
        num_steps=12,
    )
    go_right = lambda keys, inputs, carry: (jnp.ones(len(keys), jnp.int32), (), carry)

    def run(keys):
        return sample_tasks(environment, keys), rollout(environment, keys, go_right, ())

    lengths, trials = jax.jit(run)(KEYS)
    np.testing.assert_array_equal(trials.rewards.sum(0), 12 // lengths)
    np.testing.assert_array_equal(trials.done, trials.rewards == 1)


def test_invalid_sizes_are_rejected():
    with pytest.raises(UserError, match="environment.sizes.arms must be at least 1, not 0"):
        Bandit(arms=0, pulls=3)
    with pytest.raises(UserError, match="environment.sizes.cells must be at least 2, not 1"):
        Maze(cells=1, horizon=3)
