"""The travelling salesman without a teacher: REINFORCE, as Bello et al. 2016 and Kool et al. 2019.

Tours are drawn from the policy, some through the same cities, and each is rewarded by how much
shorter it is than a mark. That is the greedy tour of the best policy so far (`rollout`: Kool et al.
2019, "Attention, Learn to Solve Routing Problems!", sec. 4), or the mean of the other tours through
those cities (`others`: Kool et al. 2019, "Buy 4 REINFORCE Samples, Get a Baseline for Free!"),
which costs nothing and falls as the policy does. A better policy is looked for `every` so many
steps, on so many cities `held` out. Cities are made inside the step, and nobody has to solve them.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from flax import nnx
from jaxtyping import Array, Float, Int

from tasks.pointing.base import answer_log_prob
from tasks.pointing.held_karp import tour_length
from tasks.pointing.tsp import TSP
from training.errors import UserError, did_you_mean

BASELINES = {"others": set(), "rollout": {"every", "held"}}  # and what is to be set of each


class PolicyState(NamedTuple):
    """A `TrainState`, and the policy that sets the mark of the baseline `rollout`."""

    step: Int[Array, ""]
    params: Any
    opt_state: Any
    best: Any  # parameters; none of the baseline `others`


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
        if config.train.accumulate != 1:
            raise UserError(
                "train.accumulate must be 1, as the tours of a batch are drawn at once."
            )
        options, tours = dict(config.reinforce.baseline), config.reinforce.tours
        by = options.pop("by")
        if by not in BASELINES:
            known = "' or '".join(BASELINES)
            raise UserError(
                f"reinforce.baseline.by is '{known}', not '{by}'." + did_you_mean(by, BASELINES)
            )
        if options.keys() != BASELINES[by]:
            wanted = " and ".join(sorted(BASELINES[by])) or "nothing"
            raise UserError(f"reinforce.baseline by '{by}' has to give {wanted} besides.")
        if tours < (least := 2 if by == "others" else 1):
            raise UserError(f"reinforce.tours is {tours}, and '{by}' wants {least} or more.")
        super().__init__(config, workdir)

    def make_labels(self, workdir):
        """None are needed."""
        del workdir

    def init(self, key):
        """The first policy is the first mark."""
        state = super().init(key)
        # A copy: donated arrays may not be given twice.
        best = jax.tree.map(jnp.copy, state.params) if self._rolls_out else None
        return PolicyState(state.step, state.params, state.opt_state, best)

    @property
    def _rolls_out(self):
        return self.config.reinforce.baseline.by == "rollout"

    def train_step(self, state, batch, key):
        """One update by the policy gradient, and now and then a better mark."""
        key_data, key_draw, key_mark = jax.random.split(key, 3)
        cities, count = self.draw(batch, key_data)
        drawn = self.tours(state.params, cities, count, key_draw)
        lengths = _lengths(cities, drawn)
        if self._rolls_out:
            marks = _lengths(cities, self.tours(state.best, cities, count))
        else:
            marks = mean_of_others(lengths)
        advantages = lengths - marks

        def loss(params):
            log_probs, own = self.log_probs(params, cities, count, drawn)
            return jnp.mean(advantages * answer_log_prob(log_probs, drawn, own))

        grads = jax.grad(loss)(state.params)
        updates, opt_state = self.optimizer.update(grads, state.opt_state, state.params)
        params = optax.apply_updates(state.params, updates)
        metrics = {
            "loss": jnp.mean(lengths),
            "advantage": jnp.mean(advantages),
            "items": jnp.float32(len(cities)),
            "grad_norm": optax.tree.norm(grads),
            "learning_rate": self.optimizer.learning_rate(state.step),
        }
        best = state.best
        if self._rolls_out:
            due = (state.step + 1) % self.config.reinforce.baseline.every == 0
            keep = lambda params, best, key: best
            best = jax.lax.cond(due, self._better, keep, params, best, key_mark)
        return PolicyState(state.step + 1, params, opt_state, best), metrics

    def tours(
        self,
        params: nnx.State,
        cities: Float[Array, "B N 2"],
        count: Int[Array, ""],
        key: Array | None = None,
    ) -> Int[Array, "B W N"]:
        """Tours through a batch of cities: so many drawn with a key, or else the greedy one."""
        allowed = lambda chosen, position: self.problem.allowed(chosen, position, count)
        model = nnx.merge(self.graphdef, params)
        answers = 1 if key is None else self.config.reinforce.tours
        length, ends = self.problem.length, self.problem.ends
        return model.decode(cities, count, count, length, allowed, ends, key, answers)

    def _better(self, params, best, key):
        """The policy, if its greedy tours are shorter than the mark's by a paired t-test (5%)."""
        cities, count = self.draw({"index": jnp.arange(self.config.reinforce.baseline.held)}, key)
        lengths = [_lengths(cities, self.tours(x, cities, count))[:, 0] for x in (params, best)]
        return jax.lax.cond(is_shorter(*lengths), lambda: params, lambda: best)


def _lengths(cities: Float[Array, "B N 2"], tours: Int[Array, "B W N"]) -> Float[Array, "B W"]:
    return jax.vmap(tour_length, in_axes=(None, 1), out_axes=1)(cities, tours)


def mean_of_others(x: Float[Array, "B W"]) -> Float[Array, "B W"]:
    """Of each number of a row, the mean of the row's other numbers."""
    return (jnp.sum(x, axis=1, keepdims=True) - x) / (x.shape[1] - 1)


def is_shorter(one: Float[Array, " B"], other: Float[Array, " B"]) -> Array:
    """Whether one is less on average than the other, by a one-sided paired t-test at 5%.

    Of hundreds of pairs or more, whose t is distributed as a normal deviate.
    """
    difference = one - other
    error = jnp.std(difference, ddof=1) / len(difference) ** 0.5
    return jnp.mean(difference) < -1.645 * error
