"""Rules for bandits and planners against printed figures, and against each other."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tasks.meta_rl.baselines import gittins, references
from tasks.meta_rl.environments import Bandit, TabularMDP
from tasks.meta_rl.trials import play, row_keys, tasks_of


@pytest.mark.parametrize(
    ("discount", "printed"),
    [(0.9, [0.7029, 0.8001, 0.5001, 0.6346]), (0.99, [0.8699, 0.9102, 0.7005, 0.7844])],
)
def test_gittins_indices_are_the_printed_ones(discount, printed):
    """Of Beta(1, 1), (2, 1), (1, 2), (2, 2); see the tables of Gittins et al. 2011."""
    table = gittins(discount, 3)
    np.testing.assert_allclose(table[[0, 1, 0, 1], [0, 0, 1, 1]], printed, atol=2e-4)


def test_gittins_indices_fall_to_the_mean_where_the_future_is_worth_nothing():
    table = gittins(0.01, 4)
    a, b = np.nonzero(table)
    np.testing.assert_allclose(table[a, b], (a + 1) / (a + b + 2), atol=2e-3)
    assert np.all(gittins(0.9, 4)[a, b] > table[a, b])


def earned(environment, rows, seed=0):
    keys = row_keys(jax.random.key(seed), jnp.arange(rows))
    known = references(environment)
    start = known.start(rows)
    rewards = {
        name: float(play(environment, keys, agent, start).rewards.sum(0).mean())
        for name, agent in known.agents.items()
    }
    optima = known.optima(tasks_of(environment, keys))
    return rewards | {name: float(x.mean()) for name, x in optima.items()}


def test_rules_for_bandits_earn_what_was_printed():
    """Duan et al. 2016, table 1, (10, 5), and what can be computed: 5 at random, N K / (K + 1)."""
    rewards = earned(Bandit(arms=5, pulls=10), rows=3000)
    printed = {"random": 5.0, "gittins": 6.6, "epsilon_greedy": 6.6, "greedy": 6.6, "thompson": 5.7}
    printed["ucb1"] = 6.6  # as others measure it; the paper has 6.7
    # Three standard errors, of 0.04, and what rounding hides.
    for name, figure in printed.items():
        assert abs(rewards[name] - figure) < 0.17, (name, rewards[name])
    assert abs(rewards["optimum"] - 50 / 6) < 0.1


@pytest.mark.slow
def test_planners_earn_what_was_printed():
    """Mishra et al. 2018, table 4, N = 10, as parts of the discounted optimum.

    Constants that they leave open make the difference for all but the random one.
    """
    rewards = earned(TabularMDP(states=10, actions=5, horizon=10, episodes=10), rows=400)
    parts = {name: x / rewards["optimum_discounted"] for name, x in rewards.items()}
    assert abs(parts["random"] - 0.482) < 0.02
    assert abs(rewards["random"] - 100) < 3.5
    printed = {"epsilon_greedy": 0.640, "psrl": 0.665, "opsrl": 0.694, "ucrl2": 0.706}
    for name, figure in printed.items():
        assert abs(parts[name] - figure) < 0.07, (name, parts[name])
