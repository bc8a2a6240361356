"""Planning in small Markov decision processes, known or believed.

References of Duan et al. 2016, sec. 3.2, and Mishra et al. 2018, table 4. They know that
transitions come from a flat Dirichlet distribution and mean rewards from N(1, 1); they plan anew
before each episode, to its end. Where constants of theirs are not told, ours are said below.
"""

from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, PRNGKeyArray

from tasks.meta_rl.environments import MDP, TabularMDP
from tasks.meta_rl.trials import Agent

EPSILON = 0.1  # chance of a random action, of the greedy planner
SAMPLES = 5  # models of OPSRL
CURIOSITY = 0.5  # scale of the confidence of UCRL2, which as proven is too wide to be of use here
DISCOUNT = 0.99  # of the optimum that the papers seem to have divided by


class Beliefs(NamedTuple):
    """What was met so far. Where an episode's last step led is not seen, but what it earned is."""

    visits: Float[Array, "*B S A S"]  # steps by where they led
    pulls: Float[Array, "*B S A"]  # all steps
    rewards: Float[Array, "*B S A"]  # their sums

    @property
    def counts(self) -> Float[Array, "*B S A"]:
        """Steps of which it is known where they led."""
        return self.visits.sum(-1)

    @property
    def mean(self) -> MDP:
        """Of the posterior."""
        transitions = (self.visits + 1.0) / (self.counts + self.visits.shape[-1])[..., None]
        return MDP(transitions, (self.rewards + 1.0) / (self.pulls + 1.0))

    def sample(self, key: PRNGKeyArray) -> MDP:
        """Of the posterior."""
        keys = jax.random.split(key)
        weights = jax.random.gamma(keys[0], self.visits + 1.0)
        noise = jax.random.normal(keys[1], self.rewards.shape) * (self.pulls + 1.0) ** -0.5
        return MDP(weights / weights.sum(-1, keepdims=True), self.mean.rewards + noise)


def value_iteration(
    mdp: MDP, horizon: int, discount: float = 1.0
) -> tuple[Float[Array, " S"], Int[Array, "H S"]]:
    """The most that can be earned in `horizon` steps from each state, and what to do at each step.

    Args:
        mdp: one process.
        horizon: H.
        discount: of each further step.
    """
    return _backwards(
        lambda values: mdp.rewards + discount * mdp.transitions @ values, mdp, horizon
    )


def optima(environment: TabularMDP, params: MDP) -> dict[str, Float[Array, " B"]]:
    """What a trial earns at best, undiscounted and discounted within each episode."""
    values = lambda discount: jax.vmap(
        lambda mdp: value_iteration(mdp, environment.horizon, discount)[0][0]
    )(params)
    episodes = environment.episodes
    return {"optimum": episodes * values(1.0), "optimum_discounted": episodes * values(DISCOUNT)}


def agents(environment: TabularMDP) -> dict[str, Agent]:
    """The planners by name; each starts from `start`."""
    planners = {
        "epsilon_greedy": (_greedy, EPSILON),
        "psrl": (_psrl, 0.0),
        "opsrl": (_opsrl, 0.0),
        "ucrl2": (_ucrl2, 0.0),
    }
    return {
        name: partial(_act, environment.horizon, plan, epsilon)
        for name, (plan, epsilon) in planners.items()
    }


class Progress(NamedTuple):
    """What a planner carries from step to step."""

    beliefs: Beliefs
    plan: Int[Array, "B H S"]
    place: Int[Array, " B"]  # where it was before
    t: Int[Array, ""]


def start(environment: TabularMDP, batch: int) -> Progress:
    """Before the first step."""
    shape = batch, environment.channels, environment.actions
    return Progress(
        Beliefs(jnp.zeros((*shape, environment.channels)), jnp.zeros(shape), jnp.zeros(shape)),
        jnp.zeros((batch, environment.horizon, environment.channels), jnp.int32),
        jnp.zeros(batch, jnp.int32),
        jnp.int32(0),
    )


def _act(horizon, plan, epsilon, keys, seen, carry):
    """Learns from the last step, plans where an episode begins, and follows the plan."""
    split = jax.vmap(lambda key: jax.random.split(key, 3))(keys)
    place = jnp.argmax(seen.observation, axis=-1)
    beliefs = jax.vmap(_learn)(carry.beliefs, carry.place, place, seen)
    replan = lambda: jax.vmap(partial(plan, horizon))(split[:, 0], beliefs)
    t = carry.t % horizon
    table = jax.lax.cond(t == 0, replan, lambda: carry.plan)
    planned = jnp.take_along_axis(table[:, t], place[:, None], axis=1)[:, 0]
    count = beliefs.rewards.shape[-1]
    other = jax.vmap(lambda key: jax.random.randint(key, (), 0, count))(split[:, 1])
    explore = jax.vmap(lambda key: jax.random.bernoulli(key, epsilon))(split[:, 2])
    actions = jnp.where(explore, other, planned)
    return actions, (), Progress(beliefs, table, place, carry.t + 1)


def _learn(beliefs, before, after, seen):
    """Adds a step to what was met."""
    known = seen.action >= 0
    reward = jnp.where(known, seen.reward, 0.0)
    went = (known & ~seen.done).astype(jnp.float32)
    return Beliefs(
        beliefs.visits.at[before, seen.action, after].add(went),
        beliefs.pulls.at[before, seen.action].add(known.astype(jnp.float32)),
        beliefs.rewards.at[before, seen.action].add(reward),
    )


def _backwards(backup, mdp, horizon):
    """Values and best actions from the last step to the first."""

    def step(values, _):
        chances = backup(values)
        return chances.max(-1), jnp.argmax(chances, axis=-1).astype(jnp.int32)

    start = jnp.zeros(mdp.rewards.shape[0])
    return jax.lax.scan(step, start, length=horizon, reverse=True)


def _greedy(horizon, key, beliefs):
    """For the model that is the mean of all."""
    del key
    return value_iteration(beliefs.mean, horizon)[1]


def _psrl(horizon, key, beliefs):
    """For a model drawn from the posterior (Strens 2000; Osband et al. 2013)."""
    return value_iteration(beliefs.sample(key), horizon)[1]


def _opsrl(horizon, key, beliefs):
    """For the best, at each state and action, of some models drawn (Osband & Van Roy 2017)."""
    models = jax.vmap(beliefs.sample)(jax.random.split(key, SAMPLES))
    backup = lambda values: jnp.max(models.rewards + models.transitions @ values, axis=0)
    return _backwards(backup, beliefs.mean, horizon)[1]


def _ucrl2(horizon, key, beliefs):
    """For the best of all models that can be believed (Jaksch et al. 2010, fig. 1 and 2).

    Rewards are within c / sqrt(n + 1) of their mean, transitions within c sqrt(S / (n + 1)) of
    theirs, in the sum of absolute differences.
    """
    del key
    mean, states = beliefs.mean, beliefs.visits.shape[-1]
    rewards = mean.rewards + CURIOSITY / jnp.sqrt(beliefs.pulls + 1.0)
    radius = CURIOSITY * jnp.sqrt(states / (beliefs.counts + 1.0))

    def backup(values):
        order = jnp.argsort(values)  # the best last
        chances = mean.transitions[..., order]
        chances = chances.at[..., -1].set(jnp.minimum(1.0, chances[..., -1] + radius / 2))
        # What the best state gained, the worst ones lose.
        total = jnp.cumsum(chances, axis=-1)
        left = jnp.maximum(0.0, total - (total[..., -1:] - 1.0))
        chances = jnp.diff(left, axis=-1, prepend=0.0)
        return rewards + chances @ values[order]

    return _backwards(backup, mean, horizon)[1]
