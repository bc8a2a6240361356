"""Environments against plain Python from the same key; trials; anything of gymnax's form."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tasks.meta_rl import planners
from tasks.meta_rl.environments import Bandit, Gymnax, Labyrinth, Maze, TabularMDP
from tasks.meta_rl.trials import Seen, play, row_keys, tasks_of
from tests.commands import fast_compilation
from training.errors import UserError


@pytest.fixture(autouse=True, scope="module")
def _quickly():
    with fast_compilation():
        yield


B = 3
KEYS = row_keys(jax.random.key(7), jnp.arange(B))
ENVIRONMENTS = {
    "bandit": Bandit(arms=3, pulls=6),
    "mdp": TabularMDP(states=4, actions=2, horizon=3, episodes=2),
    "maze": Maze(rooms=3, horizon=9),
}


def bandit(params, key, state, action):
    return None, [], float(jax.random.uniform(key) < params[action]), True


def mdp(params, key, state, action):
    place, t = state or (0, 0)
    key_place, key_reward = jax.random.split(key)
    reward = params.rewards[place][action] + float(jax.random.normal(key_reward))
    u, chances = float(jax.random.uniform(key_place)), params.transitions[place][action]
    place = next(n for n, total in enumerate(itertools.accumulate(chances)) if u < total)
    return (place, t + 1), [float(place == n) for n in range(4)], reward, t + 1 == 3


def maze(params, key, state, action):
    (row, column), t = state or (tuple(params.start), 0)
    ahead = [(row - 1, column), (row, column + 1), (row + 1, column), (row, column - 1)][action]
    blocked = params.walls[ahead]
    row, column = (row, column) if blocked else ahead
    around = [(row + i, column + j) for i in (-1, 0, 1) for j in (-1, 0, 1)]
    seen = [float(params.walls[x]) for x in around] + [
        float(x == tuple(params.goal)) for x in around
    ]
    found = (row, column) == tuple(params.goal)
    return ((row, column), t + 1), seen, found - 0.01 - 0.001 * blocked, found or t + 1 == 9


SIMULATED = {"bandit": bandit, "mdp": mdp, "maze": maze}


def at_random(actions):
    def act(keys, seen, t):
        return jax.vmap(lambda key: jax.random.randint(key, (), 0, actions))(keys), t, t + 1

    return act


@pytest.mark.parametrize("kind", ENVIRONMENTS)
def test_returns_are_those_of_a_plain_simulation(kind):
    """Of the same key: step after step, from one episode to the next."""
    environment = ENVIRONMENTS[kind]
    agent = at_random(environment.actions)
    played = jax.jit(lambda keys: play(environment, keys, agent, jnp.int32(0)))(KEYS)
    params = jax.device_get(tasks_of(environment, KEYS))
    at = lambda tree, *index: jax.tree.map(lambda x: x[index], tree)
    for b in range(B):
        one, state = at(params, b), None
        for t in range(environment.steps):
            key_now = jax.random.split(jax.random.fold_in(KEYS[b], t + 2))[1]
            key, _ = jax.random.split(key_now)
            action = int(played.actions[t, b])
            state, observation, reward, done = SIMULATED[kind](one, key, state, action)
            np.testing.assert_allclose(played.rewards[t, b], reward, rtol=1e-5)
            assert bool(played.done[t, b]) == done
            state = None if done else state
            if t + 1 == environment.steps:
                break
            after = at(played.seen, t + 1, b)
            assert (int(after.action), bool(after.done)) == (action, done)
            np.testing.assert_allclose(after.reward, reward, rtol=1e-5)
            if not done:
                np.testing.assert_allclose(after.observation, observation)
    first = jax.tree.map(lambda x: x[0], played.seen)
    assert np.all(first.action == -1) and not first.reward.any() and not first.done.any()


def test_an_agent_keeps_its_memory_from_episode_to_episode():
    environment = ENVIRONMENTS["mdp"]
    played = play(environment, KEYS, at_random(2), jnp.int32(0))
    np.testing.assert_array_equal(played.notes, np.arange(environment.steps))


def test_a_trial_depends_on_its_own_row_alone():
    environment = ENVIRONMENTS["mdp"]
    agent = at_random(2)
    whole = play(environment, KEYS, agent, jnp.int32(0)).rewards
    np.testing.assert_array_equal(
        play(environment, KEYS[1:2], agent, jnp.int32(0)).rewards[:, 0], whole[:, 1]
    )


def test_random_processes_are_drawn_as_printed():
    """Flat Dirichlet: mean 1/S, variance (S - 1) / (S² (S + 1)); mean rewards N(1, 1)."""
    environment = TabularMDP(states=10, actions=5, horizon=10, episodes=1)
    mdps = tasks_of(environment, row_keys(jax.random.key(0), jnp.arange(300)))
    np.testing.assert_allclose(mdps.transitions.sum(-1), 1.0, atol=1e-5)
    np.testing.assert_allclose(mdps.transitions.var(), 9 / 1100, rtol=0.03)
    np.testing.assert_allclose([mdps.rewards.mean(), mdps.rewards.var()], 1.0, atol=0.03)
    arms = tasks_of(Bandit(arms=50, pulls=1), row_keys(jax.random.key(0), jnp.arange(300)))
    np.testing.assert_allclose(np.histogram(arms, 4, (0, 1))[0] / arms.size, 0.25, atol=0.02)


def test_every_maze_is_a_tree_of_all_its_rooms():
    """From the start every room is reached, the goal too, and there is one way to each."""
    environment = Maze(rooms=4, horizon=1)
    mazes: Labyrinth = jax.device_get(
        tasks_of(environment, row_keys(jax.random.key(1), jnp.arange(50)))
    )
    for walls, start, goal in zip(*mazes, strict=True):
        assert walls[[0, -1]].all() and walls[:, [0, -1]].all() and tuple(start) != tuple(goal)
        reached, new = set(), {tuple(start)}
        while new:
            reached |= new
            near = {(r + i, c + j) for r, c in new for i, j in ((0, 1), (1, 0), (0, -1), (-1, 0))}
            new = {x for x in near if not walls[x]} - reached
        assert len(reached) == (~walls).sum() == 2 * 16 - 1 and tuple(goal) in reached
        assert {(2 * r + 1, 2 * c + 1) for r in range(4) for c in range(4)} <= reached


def test_value_iteration_is_the_best_of_all_plans():
    """Of all 2^(3 * 3) plans of a process of three states and two actions, over three steps."""
    mdp = TabularMDP(states=3, actions=2, horizon=3, episodes=1).task(jax.random.key(3))
    values, plan = planners.value_iteration(mdp, 3, 0.9)
    p, r = (np.asarray(x, np.float64) for x in mdp)
    where = np.arange(3)

    def worth(plan):
        v = np.zeros(3)
        for actions in plan[::-1]:
            v = r[where, actions] + 0.9 * p[where, actions] @ v
        return v

    every = [worth(np.reshape(x, (3, 3))) for x in itertools.product((0, 1), repeat=9)]
    np.testing.assert_allclose(values, np.max(every, axis=0), rtol=1e-5)
    np.testing.assert_allclose(worth(np.asarray(plan)), values, rtol=1e-5)


def test_planners_learn_what_they_were_shown():
    visits = jnp.zeros((2, 1, 2)).at[0, 0, 1].set(8.0)
    beliefs = planners.Beliefs(visits, visits.sum(-1), jnp.zeros((2, 1)).at[0, 0].set(26.0))
    np.testing.assert_allclose(beliefs.mean.transitions[0, 0], [0.1, 0.9], rtol=1e-6)
    np.testing.assert_allclose(beliefs.mean.rewards[:, 0], [3.0, 1.0], rtol=1e-6)
    drawn = jax.vmap(beliefs.sample)(jax.random.split(jax.random.key(0), 2000))
    np.testing.assert_allclose(drawn.transitions[:, 0, 0, 1].mean(), 0.9, atol=0.01)
    np.testing.assert_allclose(drawn.rewards[:, 0, 0].std(), 1 / 3, atol=0.02)


def test_planners_learn_from_a_last_step_what_it_earned_alone():
    # Every step ends an episode.
    environment = TabularMDP(states=2, actions=1, horizon=1, episodes=10)
    beliefs = planners.start(environment, 1).beliefs
    seen = Seen(jnp.eye(2)[:1], jnp.array([0]), jnp.array([1.0]), jnp.array([True]))
    for _ in range(9):
        beliefs = jax.vmap(planners._learn)(beliefs, jnp.array([0]), jnp.array([1]), seen)
    np.testing.assert_allclose(beliefs.mean.rewards[0, :, 0], [1.0, 1.0])
    np.testing.assert_allclose(beliefs.mean.transitions[0], 0.5)


class Corridor:
    """In gymnax's form: to the right end of a corridor, whose length is a parameter."""

    def reset(self, key, params):
        del key, params
        return jnp.zeros((1, 1)), jnp.int32(0)

    def step(self, key, state, action, params):
        del key
        state = jnp.where(action == 1, state + 1, jnp.maximum(state - 1, 0))
        done = state == params
        return jnp.full((1, 1), state / 4), state, done * 1.0, done, {"discount": 1.0 - done}


def test_what_has_the_form_of_gymnax_can_be_wrapped():
    environment = Gymnax(
        Corridor(),
        lambda key: jax.random.randint(key, (), 2, 5),
        actions=2,
        channels=1,
        episodes=3,
        steps=12,
    )
    right = lambda keys, seen, carry: (jnp.ones(len(keys), jnp.int32), (), carry)
    played = play(environment, KEYS, right, ())
    lengths = tasks_of(environment, KEYS)
    np.testing.assert_array_equal(played.rewards.sum(0), 12 // lengths)
    np.testing.assert_array_equal(played.done, played.rewards == 1)


def test_sizes_that_cannot_be_are_a_sentence():
    with pytest.raises(UserError, match="There must be one of the arms at least, not 0"):
        Bandit(arms=0, pulls=3)
    with pytest.raises(UserError, match="at least 2 rooms"):
        Maze(rooms=1, horizon=3)
