"""Traveling salesman problem, trained by REINFORCE without reference tours.

The policy samples tours, and the advantage of a tour is its length minus a baseline (lower is
better). Baselines:

- `rollout`: length of the greedy tour of the best policy so far (Kool et al. 2019, "Attention,
  Learn to Solve Routing Problems!", sec. 4). Every `update_every` steps, the current policy is
  compared with the best policy on `instances` new instances. The first best policy is the initial
  one; the paper has a moving average of the mean length in the first epoch.
- `leave_one_out`: mean length of the other tours sampled for the same instance (Kool et al. 2019,
  "Buy 4 REINFORCE Samples, Get a Baseline for Free!"). This baseline needs no additional decoding.
- `critic`: prediction of a critic with `steps` processing steps, which is trained with the policy
  and the same optimizer on the mean squared error of its predictions (Bello et al. 2016, "Neural
  Combinatorial Optimization with Reinforcement Learning", algorithm 1).

If `reinforce.starts` is `first`, every sampled tour starts at city 0. If it is `each`, sample i
starts at city i mod n (Kwon et al. 2020, "POMO: Policy Optimization with Multiple Optima for
Reinforcement Learning", sec. 4.1), so that the samples of an instance differ even if the policy is
nearly deterministic.
"""

from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from flax import nnx
from jaxtyping import Array, Float, Int

from models.pointer_network.critic import Critic
from tasks.pointing import policy
from tasks.pointing.options import check_options
from tasks.pointing.tsp import TSP
from training.errors import UserError, config_section

# Options of each baseline, by a valid value, which defines the type and the bounds.
BASELINES: dict[str, dict[str, Any]] = {
    "leave_one_out": {},
    "rollout": {"update_every": 1, "instances": 1},
    "critic": {"steps": 1},
}
STARTS = ("first", "each")


class ReinforceState(NamedTuple):
    """Training state, and the parameters of the baseline."""

    step: Int[Array, ""]
    params: Any
    opt_state: Any  # with a critic, the states of the policy and of the critic
    baseline_params: Any  # of the best policy or the critic; None for the leave-one-out baseline


def build(config: Any, workdir: str) -> "TSPReinforce":
    """Build the task from a config.

    Raises:
        UserError: for invalid sizes, starts, baselines or model options.
    """
    return TSPReinforce(config, workdir)


class TSPReinforce(TSP):
    """Traveling salesman task with a policy gradient; the metrics are the same as for `TSP`."""

    def __init__(self, config: Any, workdir: str):
        if not config.mask_invalid:
            raise UserError("mask_invalid must be True: REINFORCE samples only valid tours.")
        if config.train.accumulate != 1:
            raise UserError("train.accumulate must be 1: REINFORCE has no microbatches.")
        kind, samples = check_baseline(dict(config.reinforce.baseline)), config.reinforce.samples
        if (starts := config.reinforce.starts) not in STARTS:
            raise UserError(f"reinforce.starts must be 'first' or 'each', not {starts!r}.")
        if config.model.kind == "seq2seq":
            raise UserError(
                "model.kind must be 'pointer' or 'attention_model': REINFORCE samples tours of any "
                "length."
            )
        if kind == "critic" and config.model.kind != "pointer":
            raise UserError(
                "model.kind must be 'pointer' for the critic baseline: the critic has the encoder "
                "and the attention of the pointer network."
            )
        if samples < (minimum := 2 if kind == "leave_one_out" else 1):
            raise UserError(
                f"reinforce.samples must be at least {minimum} for the {kind} baseline, not "
                f"{samples}."
            )
        super().__init__(config, workdir)
        if kind == "critic":
            with config_section("reinforce.baseline"):
                create = lambda: self.create_critic(jax.random.key(0))
                self.critic_graphdef = nnx.graphdef(nnx.eval_shape(create))

    def make_label_store(self, workdir):
        """Return `None`: REINFORCE needs no labels."""
        del workdir

    def init(self, key):
        """Return the state at step 0; the initial policy is the first rollout baseline."""
        state = super().init(key)
        opt_state, baseline_params = state.opt_state, None
        if self._baseline == "rollout":
            # A copy: the state is donated, and a buffer may not be donated twice.
            baseline_params = jax.tree.map(jnp.copy, state.params)
        elif self._baseline == "critic":
            # A large index, because `fold_in(key, 1)` is also the second key of `split(key)`.
            critic_key = jax.random.fold_in(key, 2**31)
            critic = nnx.state(self.create_critic(critic_key))
            baseline_params = self.reinitialize(critic, critic_key)
            opt_state = opt_state, self.optimizer.init(baseline_params)
        return ReinforceState(state.step, state.params, opt_state, baseline_params)

    @property
    def _baseline(self) -> str:
        return self.config.reinforce.baseline.kind

    def create_critic(self, key: Array) -> Critic:
        """Create the critic, whose encoder and attention have the sizes of those of the policy."""
        options = self.config.model
        return Critic(
            hidden=options.hidden,
            encoder=dict(options.encoder),
            score=options.score,
            width=options.width,
            steps=self.config.reinforce.baseline.steps,
            key=key,
        )

    def train_step(self, state, batch, key):
        """Update the policy by REINFORCE, and the baseline."""
        key_points, key_samples, key_baseline = jax.random.split(key, 3)
        cities, count = self.sample_points(batch, key_points)
        tours = self.decode_tours(state.params, cities, count, key_samples)
        lengths = policy.tour_lengths(cities, tours)
        baseline_params = state.baseline_params
        if self._baseline == "rollout":
            # The first baseline is the first policy, which `train.init_from` may have replaced.
            baseline_params = jax.lax.cond(
                state.step == 0, lambda: state.params, lambda: state.baseline_params
            )
            greedy_tours = self.decode_tours(baseline_params, cities, count)
            baseline = policy.tour_lengths(cities, greedy_tours)
        elif self._baseline == "critic":
            critic = nnx.merge(self.critic_graphdef, baseline_params)
            baseline = critic(cities, count)[:, None]
        else:
            baseline = leave_one_out_mean(lengths)
        advantages = lengths - baseline

        def loss(params):
            model = self.model(params)
            return policy.reinforce_loss(model, self.problem, cities, count, tours, advantages)

        grads = jax.grad(loss)(state.params)
        metrics = {
            "loss": jnp.mean(lengths),
            "advantage": jnp.mean(advantages),
            "items": jnp.float32(len(cities)),
            "grad_norm": optax.tree.norm(grads),
            "learning_rate": self.optimizer.learning_rate(state.step),
        }
        opt_state = state.opt_state
        if self._baseline == "critic":
            opt_state, critic_opt_state = opt_state
            critic_grads = jax.grad(self._critic_loss)(baseline_params, cities, count, lengths)
            baseline_params, critic_opt_state = self._update(
                critic_grads, critic_opt_state, baseline_params
            )
            metrics["critic_loss"] = jnp.mean(advantages**2)
        params, opt_state = self._update(grads, opt_state, state.params)
        if self._baseline == "critic":
            opt_state = opt_state, critic_opt_state
        elif self._baseline == "rollout":
            due = (state.step + 1) % self.config.reinforce.baseline.update_every == 0
            keep = lambda params, baseline_params, key: baseline_params
            baseline_params = jax.lax.cond(
                due, self._better_policy, keep, params, baseline_params, key_baseline
            )
        return ReinforceState(state.step + 1, params, opt_state, baseline_params), metrics

    def _update(self, grads, opt_state, params):
        updates, opt_state = self.optimizer.update(grads, opt_state, params)
        return optax.apply_updates(params, updates), opt_state

    def _critic_loss(self, params, cities, count, lengths):
        """Mean squared error of the critic's predictions (Bello et al. 2016, eq. 6)."""
        predictions = nnx.merge(self.critic_graphdef, params)(cities, count)
        return jnp.mean((predictions[:, None] - lengths) ** 2)

    def decode_tours(
        self,
        params: nnx.State,
        cities: Float[Array, "B N 2"],
        count: Int[Array, ""],
        key: Array | None = None,
    ) -> Int[Array, "B W N"]:
        """Sample W = `reinforce.samples` tours per instance; without a key, W = 1 greedy tour."""
        model, options = self.model(params), self.config.reinforce
        if key is None:
            return policy.decode_tours(model, cities, count)
        starts = jnp.arange(options.samples) % count if options.starts == "each" else None
        return policy.decode_tours(model, cities, count, key, options.samples, starts=starts)

    def _better_policy(self, params, baseline_params, key):
        """Return `params` if their greedy tours are significantly shorter than the baseline's."""
        index = jnp.arange(self.config.reinforce.baseline.instances)
        cities, count = self.sample_points({"index": index}, key)

        def greedy_lengths(params):
            return policy.tour_lengths(cities, self.decode_tours(params, cities, count))[:, 0]

        better = is_significantly_less(greedy_lengths(params), greedy_lengths(baseline_params))
        return jax.lax.cond(better, lambda: params, lambda: baseline_params)


def check_baseline(options: Mapping[str, Any]) -> str:
    """Check the section `reinforce.baseline` of a config, and return the kind of the baseline.

    Raises:
        UserError: if the kind is unknown, an option is unknown or missing, or a value is invalid.
    """
    check_options("reinforce.baseline", options, BASELINES)
    if options["kind"] == "rollout" and options["instances"] < 2:
        raise UserError(
            "reinforce.baseline.instances must be at least 2: the t-test compares means."
        )
    return options["kind"]


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
