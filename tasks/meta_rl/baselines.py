"""What a trained agent is held against: rules that need no training, in the same trials.

A rule for bandits gives each arm an index from what it has paid so far and pulls one of the
highest. Sources: Duan et al. 2016, sec. 3.1; Auer et al. 2002, "Finite-time analysis of the
multiarmed bandit problem", for UCB1; Gittins 1979, "Bandit processes and dynamic allocation
indices". Those for Markov decision processes are in `planners.py`.
"""

from collections.abc import Callable
from functools import lru_cache, partial, singledispatch
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Key

from tasks.meta_rl import planners
from tasks.meta_rl.environments import Bandit, Params, TabularMDP
from tasks.meta_rl.trials import Agent, Seen

DISCOUNT = 0.99  # of the Gittins index
AHEAD = 300  # pulls that its computation looks ahead, after those of the trial


class References(NamedTuple):
    """Agents by name, which all start from `start(batch)`; and what the best would earn.

    `optima(params)` is, for each of a batch of tasks, what a trial earns on the average to one who
    knows the task: more than can be earned by one who has to find out.
    """

    agents: dict[str, Agent]
    start: Callable[[int], Any]
    optima: Callable[[Params], dict[str, Float[Array, " B"]]]


@singledispatch
def references(environment: Any) -> References:
    """Those for an environment: a random agent, if there is nothing better."""

    def act(keys, seen, carry):
        del seen
        draw = lambda key: jax.random.randint(key, (), 0, environment.actions)
        return jax.vmap(draw)(keys), (), carry

    return References({"random": act}, lambda batch: (), lambda params: {})


@references.register
def _(environment: TabularMDP) -> References:
    agents = {"random": references.dispatch(object)(environment).agents["random"]}
    agents |= planners.agents(environment)
    start = partial(planners.start, environment)
    return References(agents, start, partial(planners.optima, environment))


@references.register
def _(environment: Bandit) -> References:
    table = jnp.asarray(gittins(DISCOUNT, environment.steps + 1))
    rules = {
        "random": lambda key, arms: jnp.zeros_like(arms.paid),
        "greedy": lambda key, arms: arms.mean,
        "epsilon_greedy": _epsilon_greedy,
        "ucb1": _ucb1,
        "thompson": _thompson,
        "gittins": partial(_gittins, table),
    }
    zeros = lambda batch: jnp.zeros((batch, environment.actions))
    return References(
        {name: partial(_act, rule) for name, rule in rules.items()},
        lambda batch: Arms(zeros(batch), zeros(batch)),
        lambda params: {"optimum": environment.steps * params.max(-1)},
    )


class Arms(NamedTuple):
    """What each arm has paid so far."""

    paid: Float[Array, "*B K"]
    failed: Float[Array, "*B K"]

    @property
    def pulls(self) -> Float[Array, "*B K"]:
        return self.paid + self.failed

    @property
    def mean(self) -> Float[Array, "*B K"]:
        """Of the posterior, after a flat prior."""
        return (self.paid + 1.0) / (self.pulls + 2.0)


def _act(index, keys: Key[Array, " B"], seen: Seen, arms: Arms):
    """Counts what was paid, and pulls one of the arms of the highest index."""
    pulled = jax.nn.one_hot(seen.action, arms.paid.shape[-1])  # before the first pull, none
    paid = seen.reward[:, None] * pulled
    arms = Arms(arms.paid + paid, arms.failed + pulled - paid)

    def choose(key, arms):
        key_index, key_tie = jax.random.split(key)
        indices = index(key_index, arms)
        ties = indices >= indices.max() - 1e-6
        return jax.random.categorical(key_tie, jnp.where(ties, 0.0, -jnp.inf))

    return jax.vmap(choose)(keys, arms), (), arms


def _epsilon_greedy(key, arms, epsilon=0.05):
    """The arm of the highest posterior mean; with a chance of ε, any."""
    explore = jax.random.bernoulli(key, epsilon)
    return jnp.where(explore, 0.0, arms.mean)


def _ucb1(key, arms, width=0.2):
    """Mean and a bonus for what is little known: `c sqrt(2 ln t / n)`.

    Source: Auer et al. 2002, fig. 1, where c = 1 and each arm is pulled once before any is pulled
    again. That is far too curious for short trials; Duan et al. choose c, and count from a flat
    prior instead.
    """
    del key
    bonus = jnp.sqrt(2.0 * jnp.log(arms.pulls.sum() + 1.0) / (arms.pulls + 1.0))
    return arms.mean + width * bonus


def _thompson(key, arms):
    """A chance for each arm, drawn from its posterior (Thompson 1933)."""
    return jax.random.beta(key, arms.paid + 1.0, arms.failed + 1.0)


def _gittins(table, key, arms):
    del key
    return table[arms.paid.astype(jnp.int32), arms.failed.astype(jnp.int32)]


@lru_cache(maxsize=8)
def gittins(discount: float, pulls: int, ahead: int = AHEAD) -> Float[np.ndarray, "N N"]:
    """Gittins indices of an arm that paid a times and failed b times, after a flat prior.

    The index is the sure payment for which one would rather give the arm up: for each of a grid of
    payments, the value of having the arm or retiring is computed backwards from `ahead` pulls
    further, where what is known is as good as certain.

    Args:
        discount: of the next payment; infinitely many follow.
        pulls: a + b is less than this; elsewhere the table holds zeros.
        ahead: how much further the computation goes.

    Returns:
        The table `[pulls, pulls]`, at `[a, b]`; errors are below 1e-4.
    """
    payments = np.linspace(0.0, 1.0, 2001)
    table = np.zeros((pulls, pulls), np.float32)
    retired = payments / (1.0 - discount)  # for good
    last = pulls + ahead
    a = np.arange(last + 1)[:, None]
    mean = (a + 1.0) / (last + 2.0)
    value = np.maximum(retired, mean / (1.0 - discount))
    for n in range(last - 1, -1, -1):
        mean = (np.arange(n + 1)[:, None] + 1.0) / (n + 2.0)
        onwards = mean * (1.0 + discount * value[1:]) + (1.0 - mean) * discount * value[:-1]
        value = np.maximum(retired, onwards)
        if n < pulls:
            gain = onwards - retired  # falls as the payment grows
            at = np.argmax(gain < 0, axis=1)
            low, high = (gain[np.arange(n + 1), at + d] for d in (-1, 0))
            index = payments[at] - (payments[1] - payments[0]) * high / (high - low)
            table[np.arange(n + 1), n - np.arange(n + 1)] = index
    return table
