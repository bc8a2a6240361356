"""Baselines: Gittins indices, planning against exhaustive search, and published results."""

import itertools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import optimize, sparse, stats

from tasks.meta_rl import baselines, planners
from tasks.meta_rl.baselines import BetaPosterior, gittins_indices, make_baselines
from tasks.meta_rl.environments import Bandit, Maze, MazeLayout, TabularMDP
from tasks.meta_rl.trials import TimeStep, rollout, sample_tasks, trial_keys
from tests.commands import fast_compilation


@pytest.fixture(autouse=True, scope="module")
def _fast_compilation():
    with fast_compilation():
        yield


@pytest.mark.parametrize(
    ("discount", "published"),
    [(0.9, [0.7029, 0.8001, 0.5001, 0.6346]), (0.99, [0.8699, 0.9102, 0.7005, 0.7844])],
)
def test_gittins_indices_match_published_tables(discount, published):
    """Priors are Beta(1, 1), (2, 1), (1, 2) and (2, 2); see the tables of Gittins et al. 2011."""
    table = gittins_indices(discount, 3)
    np.testing.assert_allclose(table[[0, 1, 0, 1], [0, 0, 1, 1]], published, atol=2e-4)


def test_gittins_index_approaches_the_mean_as_the_discount_vanishes():
    table = gittins_indices(0.01, 4, lookahead=20)
    a, b = np.nonzero(table)
    np.testing.assert_allclose(table[a, b], (a + 1) / (a + b + 2), atol=2e-3)
    assert np.all(gittins_indices(0.9, 4)[a, b] > table[a, b])


SUCCESSES, FAILURES = np.float32([0, 3, 1, 10]), np.float32([0, 1, 4, 2])
MEAN = (SUCCESSES + 1) / (SUCCESSES + FAILURES + 2)


@pytest.fixture(scope="module")
def indices():
    """2,000 samples of the indices of four arms by baseline."""
    posterior = BetaPosterior(jnp.asarray(SUCCESSES), jnp.asarray(FAILURES))
    functions = {
        "epsilon_greedy": baselines._epsilon_greedy,
        "ucb1": baselines._ucb1,
        "thompson": baselines._thompson,
    }
    sample = lambda key: {name: index(key, posterior) for name, index in functions.items()}
    keys = jax.random.split(jax.random.key(0), 2000)
    return jax.device_get(jax.jit(jax.vmap(sample))(keys))


def test_ucb1_adds_a_bonus_that_shrinks_with_the_pulls(indices):
    pulls = [0, 4, 5, 12]
    bonus = [0.2 * math.sqrt(2 * math.log(21 + 1) / (n + 1)) for n in pulls]
    np.testing.assert_allclose(indices["ucb1"][0], MEAN + bonus, rtol=1e-6)


def test_epsilon_greedy_explores_one_step_in_twenty(indices):
    explored = (indices["epsilon_greedy"] == 0).all(-1)
    np.testing.assert_allclose(indices["epsilon_greedy"][~explored], [MEAN] * (~explored).sum())
    assert stats.binomtest(explored.sum(), len(explored), 0.05).pvalue > 1e-3


def test_thompson_samples_have_the_distribution_of_the_posterior(indices):
    for arm in range(4):
        posterior = stats.beta(SUCCESSES[arm] + 1, FAILURES[arm] + 1)
        assert stats.kstest(indices["thompson"][:, arm], posterior.cdf).pvalue > 1e-3


def test_optimistic_thompson_sampling_replaces_samples_below_the_mean(monkeypatch):
    posterior = BetaPosterior(jnp.asarray(SUCCESSES), jnp.asarray(FAILURES))
    sample = MEAN + np.float32([0.1, -0.1, 0.05, -0.05])
    monkeypatch.setattr(baselines, "_thompson", lambda key, posterior: sample)
    optimistic = baselines._optimistic_thompson(None, posterior)
    np.testing.assert_allclose(optimistic, MEAN + np.float32([0.1, 0, 0.05, 0]), rtol=1e-6)


def test_value_iteration_matches_exhaustive_search():
    """The search covers all 2^(3 * 3) plans for three states, two actions and three steps."""
    environment = TabularMDP(states=3, actions=2, horizon=3, episodes=1)
    mdp = jax.jit(environment.sample_task)(jax.random.key(3))
    values, plan = jax.jit(planners.value_iteration, static_argnums=(1, 2))(mdp, 3, 0.9)
    transitions, rewards = (np.asarray(x, np.float64) for x in mdp)
    states = np.arange(3)

    def evaluate(plan):
        values = np.zeros(3)
        for actions in plan[::-1]:
            values = rewards[states, actions] + 0.9 * transitions[states, actions] @ values
        return values

    plans = [np.reshape(x, (3, 3)) for x in itertools.product((0, 1), repeat=9)]
    np.testing.assert_allclose(values, np.max([evaluate(x) for x in plans], axis=0), rtol=1e-5)
    np.testing.assert_allclose(evaluate(np.asarray(plan)), values, rtol=1e-5)


def test_posterior_moments_equal_hand_computed_values():
    counts = np.zeros((2, 1, 2), np.float32)
    counts[0, 0, 1] = 8.0
    reward_sums = np.array([[26.0], [0.0]], np.float32)
    posterior = planners.Posterior(*map(jnp.asarray, (counts, counts.sum(-1), reward_sums)))
    np.testing.assert_allclose(posterior.mean.transitions[0, 0], [0.1, 0.9], rtol=1e-6)
    np.testing.assert_allclose(posterior.mean.rewards[:, 0], [3.0, 1.0], rtol=1e-6)
    sample = jax.jit(jax.vmap(posterior.sample))
    samples = jax.device_get(sample(jax.random.split(jax.random.key(0), 2000)))
    np.testing.assert_allclose(samples.transitions[:, 0, 0, 1].mean(), 0.9, atol=0.01)
    np.testing.assert_allclose(samples.rewards[:, 0, 0].std(), 1 / 3, atol=0.02)


def test_last_step_of_an_episode_updates_only_the_reward_posterior():
    environment = TabularMDP(states=2, actions=1, horizon=1, episodes=10)
    posterior = planners.init_carry(environment, 1).posterior
    inputs = TimeStep(jnp.eye(2)[:1], jnp.array([0]), jnp.array([1.0]), jnp.array([True]))
    update = jax.jit(jax.vmap(planners._update))
    for _ in range(9):
        posterior = update(posterior, jnp.array([0]), jnp.array([1]), inputs)
    np.testing.assert_allclose(posterior.mean.rewards[0, :, 0], [1.0, 1.0])
    np.testing.assert_allclose(posterior.mean.transitions[0], 0.5)


HORIZON = 3


@pytest.fixture(scope="module")
def posteriors():
    """Three posteriors over MDPs with three states and two actions."""
    rng = np.random.default_rng(0)
    counts = rng.integers(0, 6, (3, 3, 2, 3)).astype(np.float32)
    reward_sums = counts.sum(-1) + rng.normal(size=(3, 3, 2))
    return planners.Posterior(*map(jnp.float32, (counts, counts.sum(-1), reward_sums)))


def plans_of(planner, posteriors):
    """Plan `[3, H, S]` for each posterior with the key 7."""
    plan = jax.jit(jax.vmap(lambda x: planner(HORIZON, jax.random.key(7), x)))
    return np.asarray(plan(posteriors))


def plan_by_loops(action_value):
    """Backward induction; `action_value(state, action, values)` is the value of an action."""
    values, plan = np.zeros(3), []
    for _ in range(HORIZON):
        table = np.array([[action_value(s, a, values) for a in (0, 1)] for s in range(3)])
        values, plan = table.max(1), [table.argmax(1), *plan]
    return plan


def test_opsrl_plans_for_the_best_sample_of_each_state_and_action(posteriors):
    plans = plans_of(planners._opsrl, posteriors)
    sample = jax.jit(jax.vmap(lambda key, x: x.sample(key), in_axes=(0, None)))
    keys = jax.random.split(jax.random.key(7), planners.OPSRL_SAMPLES)
    for n, plan in enumerate(plans):
        samples = jax.device_get(sample(keys, jax.tree.map(lambda x, n=n: x[n], posteriors)))

        def best(state, action, values, samples=samples):
            rewards, transitions = samples.rewards, samples.transitions
            return max(
                rewards[i, state, action] + transitions[i, state, action] @ values
                for i in range(planners.OPSRL_SAMPLES)
            )

        np.testing.assert_array_equal(plan, plan_by_loops(best))


def test_ucrl2_plans_for_the_optimum_of_a_linear_program(posteriors):
    """Maximize `p @ values` over distributions p within the L1 radius of the posterior mean."""
    plans = plans_of(planners._ucrl2, posteriors)
    for n, plan in enumerate(plans):
        counts, _, reward_sums = (np.asarray(x[n], np.float64) for x in posteriors)

        def optimistic(state, action, values, counts=counts, reward_sums=reward_sums):
            visits = counts[state, action].sum()
            mean = (counts[state, action] + 1) / (visits + 3)
            radius = 0.5 * math.sqrt(3 / (visits + 1))
            eye, zeros, ones = np.eye(3), np.zeros(3), np.ones(3)
            upper = np.block([[eye, -eye], [-eye, -eye], [zeros[None], ones[None]]])  # of (p, t)
            result = optimize.linprog(
                np.concatenate([-values, zeros]),
                A_ub=upper,
                b_ub=np.concatenate([mean, -mean, [radius]]),
                A_eq=np.concatenate([ones, zeros])[None],
                b_eq=[1.0],
            )
            reward = (reward_sums[state, action] + 1) / (visits + 1)
            return reward + 0.5 / math.sqrt(visits + 1) - result.fun

        np.testing.assert_array_equal(plan, plan_by_loops(optimistic))


def mean_rewards(environment, trials):
    """Mean total reward of each baseline, and mean optimum."""
    baselines = make_baselines(environment)

    @jax.jit
    def run(keys):
        carry = baselines.init_carry(trials)
        rewards = {
            name: rollout(environment, keys, agent, carry).rewards.sum(0)
            for name, agent in baselines.agents.items()
        }
        return rewards | baselines.optima(sample_tasks(environment, keys))

    keys = trial_keys(jax.random.key(0), jnp.arange(trials))
    return {name: float(np.mean(x)) for name, x in jax.device_get(run(keys)).items()}


def test_bandit_baselines_match_published_rewards():
    """Duan et al. 2016, table 1, (10, 5); exact values: 5 at random, optimum N K / (K + 1)."""
    rewards = mean_rewards(Bandit(arms=5, pulls=10), trials=3000)
    published = {"random": 5.0, "gittins": 6.6, "epsilon_greedy": 6.6, "greedy": 6.6}
    # UCB1 has 6.6 in other implementations and 6.7 in the paper.
    published |= {"thompson": 5.7, "ucb1": 6.6}
    # Three standard errors of 0.04, plus rounding of the published values.
    for name, reward in published.items():
        assert abs(rewards[name] - reward) < 0.17, (name, rewards[name])
    assert abs(rewards["optimum"] - 50 / 6) < 0.1


@pytest.mark.slow
def test_planners_match_published_rewards():
    """Mishra et al. 2018, table 4, N = 10, normalized by the discounted optimum.

    The paper does not report the planners' constants; only the random policy has none.
    """
    rewards = mean_rewards(TabularMDP(states=10, actions=5, horizon=10, episodes=10), trials=400)
    normalized = {name: x / rewards["optimum_discounted"] for name, x in rewards.items()}
    assert abs(normalized["random"] - 0.482) < 0.02
    assert abs(rewards["random"] - 100) < 3.5
    published = {"epsilon_greedy": 0.640, "psrl": 0.665, "opsrl": 0.694, "ucrl2": 0.706}
    for name, value in published.items():
        assert abs(normalized[name] - value) < 0.07, (name, normalized[name])


def shortest_path(walls, start, goal):
    """Return the length of the shortest path between two tiles, by SciPy."""
    index = np.arange(walls.size).reshape(walls.shape)
    right, down = (index[:, :-1], index[:, 1:]), (index[:-1], index[1:])
    pairs = np.concatenate([np.stack([a.ravel(), b.ravel()]) for a, b in (right, down)], axis=1)
    first, second = pairs[:, ~walls.ravel()[pairs].any(0)]
    graph = sparse.csr_array((np.ones(len(first)), (first, second)), shape=(walls.size,) * 2)
    lengths = sparse.csgraph.shortest_path(graph, directed=False, indices=index[tuple(start)])
    return lengths[index[tuple(goal)]]


@pytest.mark.parametrize("horizon", [1000, 12])
def test_optimum_of_mazes_is_the_shortest_path_or_the_horizon(horizon):
    maze = Maze(cells=6, horizon=horizon)
    layouts: MazeLayout = jax.vmap(maze.sample_task)(jax.random.split(jax.random.key(3), 40))
    expected = [shortest_path(*map(np.asarray, layout)) for layout in zip(*layouts, strict=True)]
    assert max(expected) > 12
    steps = make_baselines(maze).optima(layouts)["steps_optimum"]
    np.testing.assert_array_equal(steps, np.minimum(expected, horizon))
