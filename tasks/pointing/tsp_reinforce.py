"""Traveling salesman problem, trained by REINFORCE without reference tours.

The policy samples tours, and the advantage of a tour is its length minus a baseline (lower is
better). Baselines:

- `rollout`: length of the greedy tour of the best policy so far (Kool et al. 2019, "Attention,
  Learn to Solve Routing Problems!", sec. 4). Every `update_every` steps, the current policy is
  compared with the best policy on `instances` new instances.
- `leave_one_out`: mean length of the other tours sampled for the same instance (Kool et al. 2019,
  "Buy 4 REINFORCE Samples, Get a Baseline for Free!"). This baseline needs no additional decoding.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from flax import nnx
from jaxtyping import Array, Float, Int

from tasks.pointing.base import sequence_log_prob
from tasks.pointing.held_karp import tour_length
from tasks.pointing.tsp import TSP
from training.errors import UserError, did_you_mean

BASELINE_OPTIONS = {"leave_one_out": set(), "rollout": {"update_every", "instances"}}


class ReinforceState(NamedTuple):
    """Training state, and the policy of the rollout baseline."""

    step: Int[Array, ""]
    params: Any
    opt_state: Any
    baseline_params: Any  # None for the leave-one-out baseline


def build(config: Any, workdir: str) -> "TSPReinforce":
    """Build the task from a config.

    Raises:
        UserError: for invalid sizes, baselines or model options.
    """
    return TSPReinforce(config, workdir)


class TSPReinforce(TSP):
    """Traveling salesman task with a policy gradient; the metrics are the same as for `TSP`."""

    def __init__(self, config: Any, workdir: str):
        if not config.mask_invalid:
            raise UserError("mask_invalid must be True: REINFORCE samples only valid tours.")
        if config.train.accumulate != 1:
            raise UserError("train.accumulate must be 1: REINFORCE has no microbatches.")
        options, samples = dict(config.reinforce.baseline), config.reinforce.samples
        kind = options.pop("kind")
        if kind not in BASELINE_OPTIONS:
            known = "' or '".join(BASELINE_OPTIONS)
            raise UserError(
                f"reinforce.baseline.kind must be '{known}', not '{kind}'."
                + did_you_mean(kind, BASELINE_OPTIONS)
            )
        if options.keys() != BASELINE_OPTIONS[kind]:
            required = "the keys " + " and ".join(sorted(BASELINE_OPTIONS[kind]))
            required = required if BASELINE_OPTIONS[kind] else "no other keys"
            raise UserError(f"reinforce.baseline of kind '{kind}' must have {required}.")
        if samples < (minimum := 2 if kind == "leave_one_out" else 1):
            raise UserError(
                f"reinforce.samples must be at least {minimum} for the {kind} baseline, not "
                f"{samples}."
            )
        super().__init__(config, workdir)

    def make_label_store(self, workdir):
        """Return `None`: REINFORCE needs no labels."""
        del workdir

    def init(self, key):
        """Return the state at step 0; the initial policy is the first rollout baseline."""
        state = super().init(key)
        # A copy: the state is donated, and a buffer may not be donated twice.
        baseline = jax.tree.map(jnp.copy, state.params) if self._has_rollout_baseline else None
        return ReinforceState(state.step, state.params, state.opt_state, baseline)

    @property
    def _has_rollout_baseline(self):
        return self.config.reinforce.baseline.kind == "rollout"

    def train_step(self, state, batch, key):
        """Update the policy by REINFORCE, and the rollout baseline every `update_every` steps."""
        key_points, key_samples, key_baseline = jax.random.split(key, 3)
        cities, count = self.sample_points(batch, key_points)
        tours = self.decode_tours(state.params, cities, count, key_samples)
        lengths = _lengths(cities, tours)
        if self._has_rollout_baseline:
            baseline = _lengths(cities, self.decode_tours(state.baseline_params, cities, count))
        else:
            baseline = leave_one_out_mean(lengths)
        advantages = lengths - baseline

        def loss(params):
            log_probs, mask = self.log_probs(params, cities, count, tours)
            return jnp.mean(advantages * sequence_log_prob(log_probs, tours, mask))

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
        baseline_params = state.baseline_params
        if self._has_rollout_baseline:
            due = (state.step + 1) % self.config.reinforce.baseline.update_every == 0
            keep = lambda params, baseline_params, key: baseline_params
            baseline_params = jax.lax.cond(
                due, self._better_policy, keep, params, baseline_params, key_baseline
            )
        return ReinforceState(state.step + 1, params, opt_state, baseline_params), metrics

    def decode_tours(
        self,
        params: nnx.State,
        cities: Float[Array, "B N 2"],
        count: Int[Array, ""],
        key: Array | None = None,
    ) -> Int[Array, "B W N"]:
        """Sample W = `reinforce.samples` tours per instance; without a key, W = 1 greedy tour."""
        mask_fn = lambda chosen, position: self.problem.valid_mask(chosen, position, count)
        model = nnx.merge(self.graphdef, params)
        samples = 1 if key is None else self.config.reinforce.samples
        length, has_end_token = self.problem.length, self.problem.has_end_token
        return model.decode(cities, count, count, length, mask_fn, has_end_token, key, samples)

    def _better_policy(self, params, baseline_params, key):
        """Return `params` if their greedy tours are significantly shorter than the baseline's."""
        index = jnp.arange(self.config.reinforce.baseline.instances)
        cities, count = self.sample_points({"index": index}, key)
        greedy_lengths = lambda p: _lengths(cities, self.decode_tours(p, cities, count))[:, 0]
        better = is_significantly_less(greedy_lengths(params), greedy_lengths(baseline_params))
        return jax.lax.cond(better, lambda: params, lambda: baseline_params)


def _lengths(cities: Float[Array, "B N 2"], tours: Int[Array, "B W N"]) -> Float[Array, "B W"]:
    return jax.vmap(tour_length, in_axes=(None, 1), out_axes=1)(cities, tours)


def leave_one_out_mean(x: Float[Array, "B W"]) -> Float[Array, "B W"]:
    """Compute, for each element of a row, the mean of the other elements of the row."""
    return (jnp.sum(x, axis=1, keepdims=True) - x) / (x.shape[1] - 1)


def is_significantly_less(x: Float[Array, " B"], y: Float[Array, " B"]) -> Array:
    """Test whether x is less than y on average: one-sided paired t-test at the 5% level.

    The t distribution is approximated by a normal distribution, as B is in the hundreds or more.
    """
    difference = x - y
    standard_error = jnp.std(difference, ddof=1) / len(difference) ** 0.5
    return jnp.mean(difference) < -1.645 * standard_error
