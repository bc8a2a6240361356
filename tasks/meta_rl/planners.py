"""Planners for tabular Markov decision processes, known or learned.

Baselines of Duan et al. 2016, sec. 3.2, and Mishra et al. 2018, table 4. Their prior is the true
task distribution: a flat Dirichlet over transitions and N(1, 1) over mean rewards. They plan at the
start of each episode, up to its horizon. The papers do not report all constants.
"""

from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, PRNGKeyArray

from tasks.meta_rl.environments import MDP, TabularMDP
from tasks.meta_rl.trials import Agent

EPSILON = 0.1  # probability of a random action of the ε-greedy planner
OPSRL_SAMPLES = 5  # posterior samples per plan
UCRL2_SCALE = 0.5  # scale of the confidence intervals, which are too wide in the proof
DISCOUNT = 0.99  # discount factor of the optimum by which the papers appear to normalize


class Posterior(NamedTuple):
    """Sufficient statistics of the posterior over MDPs.

    The transition of an episode's last step is not observed, but its reward is.
    """

    transition_counts: Float[Array, "*B S A S"]
    reward_counts: Float[Array, "*B S A"]
    reward_sums: Float[Array, "*B S A"]

    @property
    def visits(self) -> Float[Array, "*B S A"]:
        """Number of observed transitions from each state and action."""
        return self.transition_counts.sum(-1)

    @property
    def mean(self) -> MDP:
        """Posterior mean."""
        states = self.transition_counts.shape[-1]
        transitions = (self.transition_counts + 1.0) / (self.visits + states)[..., None]
        return MDP(transitions, (self.reward_sums + 1.0) / (self.reward_counts + 1.0))

    def sample(self, key: PRNGKeyArray) -> MDP:
        """Posterior sample."""
        keys = jax.random.split(key)
        weights = jax.random.gamma(keys[0], self.transition_counts + 1.0)
        scale = (self.reward_counts + 1.0) ** -0.5
        noise = jax.random.normal(keys[1], self.reward_sums.shape) * scale
        return MDP(weights / weights.sum(-1, keepdims=True), self.mean.rewards + noise)


def value_iteration(
    mdp: MDP, horizon: int, discount: float = 1.0
) -> tuple[Float[Array, " S"], Int[Array, "H S"]]:
    """Return the optimal value of each state and the optimal action at each step and state.

    Args:
        mdp: a single MDP.
        horizon: H, number of steps.
        discount: discount factor per step.
    """
    return _backward_induction(
        lambda values: mdp.rewards + discount * mdp.transitions @ values, mdp, horizon
    )


def optima(environment: TabularMDP, params: MDP) -> dict[str, Float[Array, " B"]]:
    """Compute the expected reward of a trial under the optimal policy.

    Returns:
        `optimum`, and `optimum_discounted`, which is discounted within each episode.
    """
    values = lambda discount: jax.vmap(
        lambda mdp: value_iteration(mdp, environment.horizon, discount)[0][0]
    )(params)
    episodes = environment.num_episodes
    return {"optimum": episodes * values(1.0), "optimum_discounted": episodes * values(DISCOUNT)}


def agents(environment: TabularMDP) -> dict[str, Agent]:
    """Planning agents by name; their initial carry is `init_carry`."""
    planners = {
        "epsilon_greedy": (_greedy, EPSILON),
        "psrl": (_psrl, 0.0),
        "opsrl": (_opsrl, 0.0),
        "ucrl2": (_ucrl2, 0.0),
    }
    return {
        name: partial(_act, environment.horizon, planner, epsilon)
        for name, (planner, epsilon) in planners.items()
    }


class PlannerCarry(NamedTuple):
    """State of a planning agent between steps."""

    posterior: Posterior
    plan: Int[Array, "B H S"]
    position: Int[Array, " B"]  # previous state of the MDP
    t: Int[Array, ""]


def init_carry(environment: TabularMDP, batch: int) -> PlannerCarry:
    """Carry before the first step."""
    states = environment.observation_size
    shape = batch, states, environment.num_actions
    return PlannerCarry(
        Posterior(jnp.zeros((*shape, states)), jnp.zeros(shape), jnp.zeros(shape)),
        jnp.zeros((batch, environment.horizon, states), jnp.int32),
        jnp.zeros(batch, jnp.int32),
        jnp.int32(0),
    )


def _act(horizon, planner, epsilon, keys, inputs, carry):
    """Update the posterior, plan if an episode starts, and act by the plan."""
    agent_keys = jax.vmap(lambda key: jax.random.split(key, 3))(keys)
    position = jnp.argmax(inputs.observation, axis=-1)
    posterior = jax.vmap(_update)(carry.posterior, carry.position, position, inputs)
    replan = lambda: jax.vmap(partial(planner, horizon))(agent_keys[:, 0], posterior)
    t = carry.t % horizon
    plan = jax.lax.cond(t == 0, replan, lambda: carry.plan)
    planned = jnp.take_along_axis(plan[:, t], position[:, None], axis=1)[:, 0]
    num_actions = posterior.reward_sums.shape[-1]
    sample_action = lambda key: jax.random.randint(key, (), 0, num_actions)
    random_actions = jax.vmap(sample_action)(agent_keys[:, 1])
    explore = jax.vmap(lambda key: jax.random.bernoulli(key, epsilon))(agent_keys[:, 2])
    actions = jnp.where(explore, random_actions, planned)
    return actions, (), PlannerCarry(posterior, plan, position, carry.t + 1)


def _update(posterior, previous, position, inputs):
    """Add the last step to the posterior."""
    valid = inputs.action >= 0
    reward = jnp.where(valid, inputs.reward, 0.0)
    moved = (valid & ~inputs.done).astype(jnp.float32)
    return Posterior(
        posterior.transition_counts.at[previous, inputs.action, position].add(moved),
        posterior.reward_counts.at[previous, inputs.action].add(valid.astype(jnp.float32)),
        posterior.reward_sums.at[previous, inputs.action].add(reward),
    )


def _backward_induction(backup, mdp, horizon):
    """Compute values and greedy actions from the last step to the first."""

    def step(values, _):
        action_values = backup(values)
        return action_values.max(-1), jnp.argmax(action_values, axis=-1).astype(jnp.int32)

    start = jnp.zeros(mdp.rewards.shape[0])
    return jax.lax.scan(step, start, length=horizon, reverse=True)


def _greedy(horizon, key, posterior):
    """Plan for the posterior mean."""
    del key
    return value_iteration(posterior.mean, horizon)[1]


def _psrl(horizon, key, posterior):
    """Plan for a posterior sample (Strens 2000; Osband et al. 2013)."""
    return value_iteration(posterior.sample(key), horizon)[1]


def _opsrl(horizon, key, posterior):
    """Plan for the best of several posterior samples, chosen per state and action.

    Source: Osband & Van Roy 2017.
    """
    samples = jax.vmap(posterior.sample)(jax.random.split(key, OPSRL_SAMPLES))
    backup = lambda values: jnp.max(samples.rewards + samples.transitions @ values, axis=0)
    return _backward_induction(backup, posterior.mean, horizon)[1]


def _ucrl2(horizon, key, posterior):
    """Plan for the most optimistic plausible MDP (Jaksch et al. 2010, fig. 1 and 2).

    Mean rewards are within c / sqrt(n + 1) of the posterior mean, and transition probabilities
    within c sqrt(S / (n + 1)) of the posterior mean in L1 distance.
    """
    del key
    mean, states = posterior.mean, posterior.transition_counts.shape[-1]
    rewards = mean.rewards + UCRL2_SCALE / jnp.sqrt(posterior.reward_counts + 1.0)
    radius = UCRL2_SCALE * jnp.sqrt(states / (posterior.visits + 1.0))

    def backup(values):
        order = jnp.argsort(values)  # ascending
        probs = mean.transitions[..., order]
        probs = probs.at[..., -1].set(jnp.minimum(1.0, probs[..., -1] + radius / 2))
        # Remove the probability added to the best state from the worst states.
        total = jnp.cumsum(probs, axis=-1)
        remaining = jnp.maximum(0.0, total - (total[..., -1:] - 1.0))
        probs = jnp.diff(remaining, axis=-1, prepend=0.0)
        return rewards + probs @ values[order]

    return _backward_induction(backup, mean, horizon)[1]
