"""Meta-reinforcement learning: a policy with memory that adapts to a new task within one trial.

Duan et al. 2016 and Mishra et al. 2018, sec. 5.2. Each training step runs a batch of trials of
newly sampled tasks in parallel on the device, then updates the policy on them. The papers use trust
region policy optimization (TRPO); this implementation uses PPO with large batches and few epochs.
"""

import math
from collections.abc import Iterator
from functools import cached_property, partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx
from jaxtyping import Array, Bool, Float
from matplotlib.figure import Figure

from models.snail.network import SNAIL
from tasks import plotting
from tasks.attention_maps import AttentionMap, Steps
from tasks.base import ShowsAttention, evaluation_key, example_indices, microbatches
from tasks.meta_rl import ppo
from tasks.meta_rl.baselines import make_baselines
from tasks.meta_rl.environments import ENVIRONMENTS, Environment
from tasks.meta_rl.trials import Agent, TimeStep, Trials, rollout, sample_tasks, trial_keys
from training import mesh, optimizer
from training.errors import UserError, config_section, did_you_mean
from training.state import TrainState

EVALUATION_SEED = 2018
EXAMPLE_TRIALS = 3  # trials whose attention is shown
FIGURE_STEPS = 40  # steps of a trial whose attention is shown


def build(config: Any, workdir: str) -> "MetaRL":
    """Build the task from a config.

    Raises:
        UserError: if the environment, the model or a size is invalid.
    """
    del workdir  # the task stores no files
    return MetaRL(config)


class MetaRL(ShowsAttention):
    """Meta-reinforcement learning task; its metric `reward` is the total reward of a trial."""

    unit = "actions"
    splits = ("test",)

    def __init__(self, config: Any):
        self.config = config
        self.optimizer = optimizer.build(**config.optimizer)
        self._tested: tuple[Any, Any] = (None, None)  # parameters and their test rewards
        kind = config.environment.kind
        if kind not in ENVIRONMENTS:
            raise UserError(
                f"Unknown environment.kind {kind!r}; choose from {', '.join(ENVIRONMENTS)}."
                + did_you_mean(kind, ENVIRONMENTS)
            )
        with config_section("environment"):
            self.environment: Environment = ENVIRONMENTS[kind](**config.environment.sizes)
        with config_section("ppo"):
            self.options = ppo.Options(**config.ppo)
        if config.batch < 2:
            raise UserError("batch must be at least 2 trials, because the baseline is their mean.")
        if config.batch % self.options.minibatches:
            raise UserError(
                f"A batch of {config.batch} trials cannot be split into ppo.minibatches="
                f"{self.options.minibatches} equal parts: make the batch size a multiple of it."
            )
        with config_section("model"):
            self.graphdef = nnx.graphdef(nnx.eval_shape(lambda: self.create(jax.random.key(0))))

    def create(self, key: Array) -> SNAIL:
        """Create the model with initial parameters."""
        environment = self.environment
        return SNAIL(
            inputs=environment.observation_size + environment.num_actions + 2,
            actions=environment.num_actions,
            max_length=environment.num_steps,
            key=key,
            **self.config.model,
        )

    def describe(self) -> dict[str, str]:
        """Summarize the environment and the number of training trials."""
        sizes = ", ".join(f"{k} {v}" for k, v in self.config.environment.sizes.items())
        trials = self.config.train.steps * self.config.batch
        return {"data": f"{self.config.environment.kind}, {sizes}; {trials:,} training trials"}

    # Training.

    def init(self, key: Array) -> TrainState:
        """Return the parameters and the optimizer state at step 0."""
        params = nnx.state(self.create(key))
        return TrainState(jnp.int32(0), params, self.optimizer.init(params))

    def batches(self, split: str, start_step: int) -> Iterator[dict[str, np.ndarray]]:
        """Yield trial indices; the training step generates the trials from its key."""
        del split, start_step
        return example_indices(self.config.batch)

    def encode(self, inputs: TimeStep) -> Array:
        """Concatenate observation, one-hot previous action, reward and end of episode: `[..., I]`.

        At the first step, where there is no previous action, the one-hot vector is zero.
        """
        action = jax.nn.one_hot(inputs.action, self.environment.num_actions)
        outcome = jnp.stack([inputs.reward, inputs.done.astype(jnp.float32)], axis=-1)
        return jnp.concatenate([inputs.observation, action, outcome], axis=-1)

    def agent(self, params: nnx.State) -> Agent:
        """Return an agent that samples from the policy and outputs `(log_prob, value)`."""
        model = nnx.merge(self.graphdef, params)

        def act(keys, inputs, cache):
            logits, values, cache = model.step(self.encode(inputs), cache)
            actions = jax.vmap(jax.random.categorical)(keys, logits)
            return actions, (ppo.log_prob(logits, actions), values), cache

        return act

    def rollout(self, params: nnx.State, keys: Array) -> Trials:
        """Run trials of the policy."""
        model = nnx.merge(self.graphdef, params)
        return rollout(self.environment, keys, self.agent(params), model.init_cache(len(keys)))

    def train_step(self, state: TrainState, batch, key: Array):
        """Run a batch of trials, then update the policy for several epochs of minibatches."""
        options = self.options
        trials = self.rollout(state.params, trial_keys(key, batch["index"]))
        # Trials are independent and identically distributed, so the split needs no shuffling.
        split = lambda x: microbatches(x, options.minibatches)
        minibatches = jax.tree.map(split, self._experience(trials))
        progress = jnp.minimum(state.step / options.entropy_steps, 1.0)
        entropy_weight = options.entropy_weight * (1.0 - progress)

        def loss(params, minibatch):
            logits, values = nnx.merge(self.graphdef, params)(minibatch.inputs)
            return ppo.loss(
                logits,
                values,
                minibatch,
                clip=options.clip,
                value_weight=options.value_weight,
                entropy_weight=entropy_weight,
            )

        def update(carry, n):
            params, opt_state = carry
            minibatch = jax.tree.map(lambda x: x[n % options.minibatches], minibatches)
            (value, metrics), grads = jax.value_and_grad(loss, has_aux=True)(params, minibatch)
            updates, opt_state = self.optimizer.update(grads, opt_state, params)
            metrics |= {"loss": value, "grad_norm": optax.tree.norm(grads)}
            return (optax.apply_updates(params, updates), opt_state), metrics

        (params, opt_state), metrics = jax.lax.scan(
            update,
            (state.params, state.opt_state),
            jnp.arange(options.epochs * options.minibatches),
        )
        metrics = jax.tree.map(jnp.mean, metrics) | {
            "reward": trials.rewards.sum(0).mean(),
            "items": jnp.float32(trials.rewards.size),
            "learning_rate": self.optimizer.learning_rate(
                state.step * options.epochs * options.minibatches
            ),
        }
        return TrainState(state.step + 1, params, opt_state), metrics

    def _experience(self, trials: Trials) -> ppo.Experience:
        """Convert trials to training data `[B, T]`.

        Returns depend mostly on the number of remaining steps, which is the same in all trials. The
        baseline is therefore the batch mean at each step plus the network's value, which predicts
        the deviation from that mean in standard deviations. Learning is thus invariant to the scale
        of the rewards, and the network need not count steps. The value targets are these
        normalized deviations of the discounted returns. TD(λ) targets with a small λ would
        propagate the later rewards of exploration too slowly.
        """
        options = self.options
        trials = jax.tree.map(lambda x: jnp.swapaxes(x, 0, 1), trials)
        log_probs, values = trials.outputs
        returns = ppo.generalized_advantages(
            trials.rewards, jnp.zeros_like(values), options.discount, 1.0
        )
        mean = returns.mean(0)
        scale = jnp.std(returns - mean) + 1e-8
        advantages = ppo.generalized_advantages(
            trials.rewards, mean + scale * values, options.discount, options.gae_lambda
        )
        normalized = (advantages - advantages.mean(0)) / (advantages.std() + 1e-8)
        return ppo.Experience(
            self.encode(trials.inputs),
            trials.actions,
            log_probs,
            normalized,
            (returns - mean) / scale,
        )

    # Evaluation.

    def has_metric(self, name: str) -> bool:
        """Return whether the dev split has a metric."""
        two_episodes = self.environment.num_episodes == 2
        return name == "reward" or (two_episodes and name in ("steps_1", "steps_2"))

    def evaluate(self, state: TrainState, split: str) -> dict[str, float]:
        """Compute the mean total reward of a trial over a fixed sample of tasks.

        On the test split the baselines run in the same trials (`reward_gittins`), and `optimum` is
        the expected reward of the optimal policy. For Markov decision processes, `normalized` is
        the mean reward divided by the mean optimum, and `normalized_discounted` the mean reward
        divided by `optimum_discounted`, the discounted optimum. If a trial has two episodes,
        `steps_1` and `steps_2` are their lengths; in mazes, `steps_optimum` is the length of the
        shortest path, at most the horizon.
        """
        test = split == "test"
        rewards, scalars = self._test_rewards(state) if test else self._mean_rewards(state, split)
        metrics = {name: float(by_step.sum()) for name, by_step in rewards.items()}
        if "optimum_discounted" in scalars:
            for optimum in ("optimum", "optimum_discounted"):
                name = optimum.replace("optimum", "normalized")
                metrics |= {
                    agent.replace("reward", name): reward / scalars[optimum]
                    for agent, reward in metrics.items()
                    if agent.startswith("reward")
                }
        return metrics | scalars

    def _test_rewards(self, state: TrainState):
        """Return the cached `_mean_rewards` of the test split, for `evaluate` and `figures`."""
        if self._tested[0] is not state.params:
            self._tested = state.params, self._mean_rewards(state, "test")
        return self._tested[1]

    def _mean_rewards(self, state: TrainState, split: str):
        """Average the rewards of each agent at each step `[T]`, and the scalar metrics."""
        batch_size = self.config.batch
        split_name = "test" if split == "test" else "dev"
        count = self.config.evaluation[f"{split_name}_trials"]
        total: Any = None
        for n in range(math.ceil(count / batch_size)):
            indices = n * batch_size + np.arange(batch_size)
            with mesh.evaluation_mesh(state.params) as shard:
                batch = shard((indices, indices < count))
                sums = jax.device_get(self._jitted_sums(state.params, *batch, split=split))
            total = jax.tree.map(np.add, total, sums) if n else sums
        return jax.tree.map(lambda x: x / count, total)

    @cached_property
    def _jitted_sums(self):
        return jax.jit(self._sums, static_argnames="split")

    def _sums(self, params, indices, valid, *, split):
        """Sum rewards and scalar metrics over the valid trials of a batch."""
        keys = trial_keys(evaluation_key(split, EVALUATION_SEED), indices)
        trials = self.rollout(params, keys)
        rewards = {"reward": trials.rewards @ valid}
        scalars: dict[str, Array] = {}
        two_episodes = self.environment.num_episodes == 2
        if two_episodes:
            scalars |= _episode_lengths(trials.done)
        if split == "test":
            baselines = make_baselines(self.environment)
            carry = baselines.init_carry(len(keys))
            for name, agent in baselines.agents.items():
                trials = rollout(self.environment, keys, agent, carry)
                rewards[f"reward_{name}"] = trials.rewards @ valid
                if two_episodes:
                    lengths = _episode_lengths(trials.done)
                    scalars |= {f"{length}_{name}": x for length, x in lengths.items()}
            scalars |= baselines.optima(sample_tasks(self.environment, keys))
        return rewards, {name: x @ valid for name, x in scalars.items()}

    # Figures.

    def figures(self, state: TrainState) -> dict[str, Figure]:
        """Plot reward and regret by episode with the baselines, and attention weights."""
        rewards, scalars = self._test_rewards(state)
        labels = {
            name: name.removeprefix("reward_").replace("_", " ").replace("reward", "ours")
            for name in rewards
        }
        if not self.environment.fixed_length:
            return self._episode_length_figure(labels, scalars) | self._attention_figure(state)
        episodes = self.environment.num_episodes
        by_episode = {labels[name]: x.reshape(episodes, -1).sum(1) for name, x in rewards.items()}
        best = float(scalars["optimum"]) / episodes if "optimum" in scalars else None
        figures = {"episodes": plotting.line_plot(by_episode, "episode", "reward", best)}
        if best is not None:
            regret = {name: np.cumsum(best - x) for name, x in by_episode.items()}
            figures["regret"] = plotting.line_plot(regret, "episode", "cumulative regret", None)
        return figures | self._attention_figure(state)

    def _episode_length_figure(self, labels, scalars) -> dict[str, Figure]:
        """Plot the lengths of the two episodes of a trial for each agent."""
        if "steps_1" not in scalars:
            return {}
        suffix = lambda name: name.removeprefix("reward")
        lengths = {
            label: np.array([scalars[f"steps_{n}{suffix(name)}"] for n in (1, 2)])
            for name, label in labels.items()
        }
        optimum = scalars.get("steps_optimum")
        return {"episodes": plotting.line_plot(lengths, "episode", "steps per episode", optimum)}

    def _attention_figure(self, state: TrainState) -> dict[str, Figure]:
        """Plot the attention weights in one trial, if the model has attention blocks."""
        maps = self.attention_maps(state)
        if not maps:
            return {}
        steps = _format_steps(self._example_trials(state))[:FIGURE_STEPS]
        previous = ["–", *steps][: len(steps)]  # the input of a step is the outcome of the previous
        title = "Attention weights. Row: chosen action:reward. Column: previous action:reward."
        layers = list(maps[0].weights)
        return {"attention": plotting.attention_heads(layers, previous, steps, title)}

    def attention_maps(self, state: TrainState, inputs: Any = None) -> list[AttentionMap]:
        """Return the weights of all attention blocks in the first steps of a few trials."""
        del inputs
        trials = self._example_trials(state)
        encoded = jnp.swapaxes(self.encode(trials.inputs), 0, 1)[:, :FIGURE_STEPS]
        weights = jax.device_get(self._attention_weights(state.params, encoded))
        if not weights:
            return []
        maps = []
        for n in range(EXAMPLE_TRIALS):
            actions = [f"action {action}" for action in trials.actions[:FIGURE_STEPS, n]]
            rewards = np.asarray(trials.rewards[:FIGURE_STEPS, n])
            before = np.concatenate([[np.nan], rewards[:-1]])
            maps.append(
                AttentionMap(
                    f"trial {n + 1}",
                    "attention",
                    np.stack([layer[n][None] for layer in weights]),
                    Steps("step", actions, rewards),
                    Steps("input", ["start", *actions[:-1]], before),
                )
            )
        return maps

    @partial(jax.jit, static_argnames="self")
    def _attention_weights(self, params, inputs):
        return nnx.merge(self.graphdef, params).attention_weights(inputs)

    def samples(self, state: TrainState) -> str:
        """Format the actions and rewards of one trial."""
        return "one trial, as action:reward\n  " + " ".join(
            _format_steps(self._example_trials(state))
        )

    def _example_trials(self, state: TrainState) -> Trials:
        indices = jnp.arange(EXAMPLE_TRIALS)
        keys = trial_keys(evaluation_key("figures", EVALUATION_SEED), indices)
        return jax.device_get(self._jitted_rollout(state.params, keys))

    @cached_property
    def _jitted_rollout(self):
        return jax.jit(self.rollout)


def _format_steps(trials: Trials) -> list[str]:
    """Format each step of the first trial as 'action:reward'."""
    steps = zip(trials.actions[:, 0], trials.rewards[:, 0], strict=True)
    return [f"{action}:{reward:.2g}" for action, reward in steps]


def _episode_lengths(done: Bool[Array, "T B"]) -> dict[str, Float[Array, " B"]]:
    """Lengths of the first two episodes; an unfinished episode ends with the trial."""
    episode = jnp.cumsum(done, axis=0) - done  # index of the episode of each step
    return {f"steps_{n + 1}": jnp.sum(episode == n, axis=0).astype(jnp.float32) for n in range(2)}
