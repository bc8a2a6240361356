"""The travelling salesman without a teacher: REINFORCE, as Bello et al. 2016 and Kool et al. 2019.

A tour is drawn from the policy and rewarded by how much shorter it is than the greedy tour of the
best policy so far through the same cities (Kool et al. 2019, sec. 4, "rollout baseline"). Cities
are made inside the step, and nobody has to solve them.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from flax import nnx
from jaxtyping import Array, Float, Int

from tasks.data.held_karp import tour_length
from tasks.data.points import Points
from tasks.pointing import answer_log_prob
from tasks.tsp import TSP
from training.errors import UserError


class PolicyState(NamedTuple):
    """A `TrainState`, and the policy that sets the mark."""

    step: Int[Array, ""]
    params: Any
    opt_state: Any
    best: Any  # parameters


def build(config: Any, workdir: str) -> "TSPReinforce":
    """Builds the task from a config.

    Raises:
        UserError: for sizes or values of the model that there are not.
    """
    return TSPReinforce(config, workdir)


class TSPReinforce(TSP):
    """See the module; measures are those of `TSP`."""

    def __init__(self, config: Any, workdir: str):
        if not config.masked:
            raise UserError("Tours are drawn from valid ones alone, so 'masked' must be True.")
        super().__init__(config, workdir)

    def make_labels(self, workdir):
        """None are needed."""
        del workdir

    def init(self, key):
        """The first policy is the first mark."""
        state = super().init(key)
        # A copy: donated arrays may not be given twice.
        best = jax.tree.map(jnp.copy, state.params)
        return PolicyState(state.step, state.params, state.opt_state, best)

    def example(self, batch, key):
        """Cities, and no choices yet."""
        cities, count = self.cities(batch, key)
        return Points(cities, count, jnp.zeros(cities.shape[:2], jnp.int32))

    def train_step(self, state, batch, key):
        """One update by the policy gradient, and now and then a better mark."""
        key_data, key_draw, key_mark = jax.random.split(key, 3)
        asked = self.example(batch, key_data)
        drawn = self.tours(state.params, asked, key_draw)
        lengths = tour_length(asked.points, drawn)
        marks = tour_length(asked.points, self.tours(state.best, asked))
        advantages = lengths - marks

        def loss(params):
            log_probs, own = self.log_probs(params, asked._replace(choices=drawn))
            return jnp.mean(advantages * answer_log_prob(log_probs, drawn, own))

        grads = jax.grad(loss)(state.params)
        updates, opt_state = self.optimizer.update(grads, state.opt_state, state.params)
        params = optax.apply_updates(state.params, updates)
        metrics = {
            "loss": jnp.mean(lengths),
            "advantage": jnp.mean(advantages),
            "items": jnp.float32(len(lengths)),
            "grad_norm": optax.tree.norm(grads),
            "learning_rate": self.optimizer.learning_rate(state.step),
        }
        due = (state.step + 1) % self.config.reinforce.every == 0
        best = jax.lax.cond(
            due, self._better, lambda _, best, __: best, params, state.best, key_mark
        )
        return PolicyState(state.step + 1, params, opt_state, best), metrics

    def tours(
        self, params: nnx.State, asked: Points, key: Array | None = None
    ) -> Int[Array, "B N"]:
        """Tours through a batch of cities: drawn with a key, or else greedy."""
        allowed = lambda chosen, position: self.problem.allowed(chosen, position, asked.n)
        model = nnx.merge(self.graphdef, params)
        length = self.problem.length
        return model.decode(asked.points, asked.n, asked.n, length, allowed, key)

    def _better(self, params, best, key):
        """The policy, if its greedy tours are shorter than the mark's by a paired t-test (5%)."""
        rows = jnp.arange(self.config.reinforce.held)
        asked = self.example({"row": rows}, key)
        lengths = [tour_length(asked.points, self.tours(x, asked)) for x in (params, best)]
        return jax.lax.cond(is_shorter(*lengths), lambda: params, lambda: best)


def is_shorter(one: Float[Array, " B"], other: Float[Array, " B"]) -> Array:
    """Whether one is less on average than the other, by a one-sided paired t-test at 5%.

    Of hundreds of pairs or more, whose t is distributed as a normal deviate.
    """
    difference = one - other
    error = jnp.std(difference, ddof=1) / len(difference) ** 0.5
    return jnp.mean(difference) < -1.645 * error
