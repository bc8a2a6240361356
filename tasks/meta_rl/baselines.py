"""Untrained baseline policies, evaluated in the same trials as the trained policy.

The bandit policies compute an index of each arm from its past rewards and pull an arm with the
largest index. Sources: Duan et al. 2016, sec. 3.1; Auer et al. 2002, "Finite-time analysis of the
multiarmed bandit problem", for UCB1; May et al. 2012, "Optimistic Bayesian sampling in
contextual-bandit problems", for optimistic Thompson sampling; Gittins 1979, "Bandit processes and
dynamic allocation indices". The baselines for Markov decision processes are in `planners.py`.
"""

from collections.abc import Callable
from functools import lru_cache, partial, singledispatch
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, Key

from tasks.meta_rl import planners
from tasks.meta_rl.environments import Bandit, Maze, MazeLayout, Params, TabularMDP
from tasks.meta_rl.trials import Agent, TimeStep

DISCOUNT = 0.99  # discount factor of the Gittins index
LOOKAHEAD = 300  # pulls after the end of a trial that its dynamic program covers


class Baselines(NamedTuple):
    """Baseline policies of an environment.

    `init_carry(batch)` is the initial carry of all agents. `optima(params)` has the results of the
    optimal policy for known tasks, bounds for any agent: the expected reward of a trial, or in
    mazes the number of steps of an episode. For Markov decision processes, `optimum_discounted`
    is not a bound, because the rewards of an episode are discounted.
    """

    agents: dict[str, Agent]
    init_carry: Callable[[int], Any]
    optima: Callable[[Params], dict[str, Float[Array, " B"]]]


@singledispatch
def make_baselines(environment: Any) -> Baselines:
    """Create the baselines of an environment; by default only a random policy."""

    def act(keys, inputs, carry):
        del inputs
        sample = lambda key: jax.random.randint(key, (), 0, environment.num_actions)
        return jax.vmap(sample)(keys), (), carry

    return Baselines({"random": act}, lambda batch: (), lambda params: {})


@make_baselines.register
def _(environment: TabularMDP) -> Baselines:
    agents = {"random": make_baselines.dispatch(object)(environment).agents["random"]}
    agents |= planners.agents(environment)
    init_carry = partial(planners.init_carry, environment)
    return Baselines(agents, init_carry, partial(planners.optima, environment))


@make_baselines.register
def _(environment: Maze) -> Baselines:
    steps = lambda layouts: jnp.minimum(jax.vmap(path_length)(layouts), environment.horizon)
    random = make_baselines.dispatch(object)(environment)
    return random._replace(optima=lambda layouts: {"steps_optimum": steps(layouts)})


def path_length(layout: MazeLayout) -> Int[Array, ""]:
    """Compute the number of moves of the shortest path to the goal, by breadth-first search.

    Walls surround the maze, so that `jnp.roll` does not connect opposite sides.
    """

    def move(search):
        reached, moves = search
        neighbors = [jnp.roll(reached, offset, (0, 1)) for offset in Maze.moves]
        return sum(neighbors, reached) & ~layout.walls, moves + 1

    start = jnp.zeros_like(layout.walls).at[layout.start[0], layout.start[1]].set(True)
    at_goal = lambda search: search[0][layout.goal[0], layout.goal[1]]
    return jax.lax.while_loop(lambda search: ~at_goal(search), move, (start, jnp.int32(0)))[1]


@make_baselines.register
def _(environment: Bandit) -> Baselines:
    table = jnp.asarray(gittins_indices(DISCOUNT, environment.num_steps + 1))
    indices = {
        "random": lambda key, posterior: jnp.zeros_like(posterior.successes),
        "greedy": lambda key, posterior: posterior.mean,
        "epsilon_greedy": _epsilon_greedy,
        "ucb1": _ucb1,
        "thompson": _thompson,
        "optimistic_thompson": _optimistic_thompson,
        "gittins": partial(_gittins, table),
    }
    zeros = lambda batch: jnp.zeros((batch, environment.num_actions))
    return Baselines(
        {name: partial(_act, index) for name, index in indices.items()},
        lambda batch: BetaPosterior(zeros(batch), zeros(batch)),
        lambda params: {"optimum": environment.num_steps * params.max(-1)},
    )


class BetaPosterior(NamedTuple):
    """Successes and failures of each arm, the counts of a Beta posterior with a flat prior."""

    successes: Float[Array, "*B K"]
    failures: Float[Array, "*B K"]

    @property
    def pulls(self) -> Float[Array, "*B K"]:
        """Number of pulls of each arm."""
        return self.successes + self.failures

    @property
    def mean(self) -> Float[Array, "*B K"]:
        """Posterior mean."""
        return (self.successes + 1.0) / (self.pulls + 2.0)


def _act(index, keys: Key[Array, " B"], inputs: TimeStep, posterior: BetaPosterior):
    """Update the posterior and pull an arm with the largest index; ties are broken at random."""
    # One-hot of the previous action; all zeros at the first step.
    pulled = jax.nn.one_hot(inputs.action, posterior.successes.shape[-1])
    success = inputs.reward[:, None] * pulled
    posterior = BetaPosterior(posterior.successes + success, posterior.failures + pulled - success)

    def choose(key, posterior):
        index_key, tie_key = jax.random.split(key)
        indices = index(index_key, posterior)
        ties = indices >= indices.max() - 1e-6
        return jax.random.categorical(tie_key, jnp.where(ties, 0.0, -jnp.inf))

    return jax.vmap(choose)(keys, posterior), (), posterior


def _epsilon_greedy(key, posterior, epsilon=0.05):
    """Posterior mean, or with probability ε equal indices, that is, a random arm."""
    explore = jax.random.bernoulli(key, epsilon)
    return jnp.where(explore, 0.0, posterior.mean)


def _ucb1(key, posterior, width=0.2):
    """Mean plus exploration bonus `c sqrt(2 ln t / n)`.

    Auer et al. 2002, fig. 1, use c = 1 and pull every arm once first, which explores too much in
    short trials. As in Duan et al. 2016, c is tuned, and a flat prior replaces the initial pulls.
    """
    del key
    bonus = jnp.sqrt(2.0 * jnp.log(posterior.pulls.sum() + 1.0) / (posterior.pulls + 1.0))
    return posterior.mean + width * bonus


def _thompson(key, posterior):
    """Posterior sample (Thompson 1933)."""
    return jax.random.beta(key, posterior.successes + 1.0, posterior.failures + 1.0)


def _optimistic_thompson(key, posterior):
    """Posterior sample, but at least the posterior mean (May et al. 2012, algorithm 2)."""
    return jnp.maximum(_thompson(key, posterior), posterior.mean)


def _gittins(table, key, posterior):
    del key
    return table[posterior.successes.astype(jnp.int32), posterior.failures.astype(jnp.int32)]


@lru_cache(maxsize=8)
def gittins_indices(
    discount: float, pulls: int, lookahead: int = LOOKAHEAD
) -> Float[np.ndarray, "N N"]:
    """Compute the Gittins index of a Bernoulli arm after a successes and b failures.

    The index is the constant payment at which retiring is as good as continuing with the arm. For
    each payment of a grid, the value of continuing or retiring is computed by backward induction
    from `lookahead` pulls after the last one, where the posterior mean is taken as exact. The prior
    is flat.

    Args:
        discount: discount factor; the horizon is infinite.
        pulls: the table covers a + b < `pulls`; other entries are zero.
        lookahead: additional pulls of the dynamic program.

    Returns:
        The table `[pulls, pulls]`, indexed by `[a, b]`, with errors below 1e-4.
    """
    payments = np.linspace(0.0, 1.0, 2001)
    table = np.zeros((pulls, pulls), np.float32)
    retired = payments / (1.0 - discount)
    last = pulls + lookahead
    successes = np.arange(last + 1)[:, None]
    mean = (successes + 1.0) / (last + 2.0)
    value = np.maximum(retired, mean / (1.0 - discount))
    for n in range(last - 1, -1, -1):
        mean = (np.arange(n + 1)[:, None] + 1.0) / (n + 2.0)
        continued = mean * (1.0 + discount * value[1:]) + (1.0 - mean) * discount * value[:-1]
        value = np.maximum(retired, continued)
        if n < pulls:
            gain = continued - retired  # decreases with the payment
            crossing = np.argmax(gain < 0, axis=1)
            low, high = (gain[np.arange(n + 1), crossing + d] for d in (-1, 0))
            index = payments[crossing] - (payments[1] - payments[0]) * high / (high - low)
            table[np.arange(n + 1), n - np.arange(n + 1)] = index
    return table
