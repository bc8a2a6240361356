"""Learning to learn: a policy that finds its way about a task it has never seen, within a trial.

Duan et al. 2016 and Mishra et al. 2018, sec. 5.2. A step of training plays whole trials of new
tasks, all of them on the device and side by side, then improves the policy on them. The papers used
trust region policy optimisation; here it is PPO, with large batches and as few epochs.
"""

import math
from collections.abc import Iterator
from functools import cached_property
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
from tasks.base import evaluation_key, example_indices, microbatches
from tasks.meta_rl import ppo
from tasks.meta_rl.baselines import references
from tasks.meta_rl.environments import ENVIRONMENTS, Environment
from tasks.meta_rl.trials import Agent, Seen, Trials, play, row_keys, tasks_of
from training import mesh, optimizer
from training.errors import UserError, config_section, did_you_mean
from training.state import TrainState

SHOWN = 40  # steps of a trial in the picture of attention


def build(config: Any, workdir: str) -> "MetaRL":
    """Builds the task from a config.

    Raises:
        UserError: for an environment, model or size that there is not.
    """
    del workdir  # nothing is learned before training
    return MetaRL(config)


class MetaRL:
    """See the module. `reward` is the paper's measure, all that a trial earned."""

    unit = "actions"
    splits = ("test",)

    def __init__(self, config: Any):
        self.config = config
        self.optimizer = optimizer.build(**config.optimizer)
        kind = config.environment.kind
        if kind not in ENVIRONMENTS:
            raise UserError(
                f"environment.kind '{kind}' is not one of {', '.join(ENVIRONMENTS)}."
                + did_you_mean(kind, ENVIRONMENTS)
            )
        with config_section("environment"):
            self.environment: Environment = ENVIRONMENTS[kind](**config.environment.sizes)
        if config.batch % config.ppo.minibatches:
            raise UserError(
                f"A batch of {config.batch} trials cannot be cut into ppo.minibatches="
                f"{config.ppo.minibatches} equal parts."
            )
        with config_section("model"):
            self.graphdef = nnx.graphdef(nnx.eval_shape(lambda: self.create(jax.random.key(0))))

    def create(self, key: Array) -> SNAIL:
        """The model with its first weights."""
        environment = self.environment
        return SNAIL(
            inputs=environment.channels + environment.actions + 2,
            actions=environment.actions,
            longest=environment.steps,
            key=key,
            **self.config.model,
        )

    def describe(self) -> dict[str, str]:
        """What the trials are, and how many will be seen of them."""
        sizes = ", ".join(f"{k} {v}" for k, v in self.config.environment.sizes.items())
        seen = self.config.train.steps * self.config.batch
        return {"data": f"{self.config.environment.kind}, {sizes}; {seen:,} trials in all"}

    # Training.

    def init(self, key: Array) -> TrainState:
        params = nnx.state(self.create(key))
        return TrainState(jnp.int32(0), params, self.optimizer.init(params))

    def batches(self, split: str, start_step: int) -> Iterator[dict[str, np.ndarray]]:
        """Numbers of rows: the trials themselves come of the step's key."""
        del split, start_step
        return example_indices(self.config.batch)

    def encode(self, seen: Seen) -> Array:
        """Observation, last action, its reward, and whether an episode ended: `[..., I]`."""
        action = jax.nn.one_hot(seen.action, self.environment.actions)  # before the first, none
        rest = jnp.stack([seen.reward, seen.done.astype(jnp.float32)], axis=-1)
        return jnp.concatenate([seen.observation, action, rest], axis=-1)

    def agent(self, params: nnx.State) -> Agent:
        """The policy, which samples its actions, as the papers' do; notes are (log p, value)."""
        model = nnx.merge(self.graphdef, params)

        def act(keys, seen, cache):
            logits, values, cache = model.step(self.encode(seen), cache)
            actions = jax.vmap(jax.random.categorical)(keys, logits)
            return actions, (ppo.log_prob(logits, actions), values), cache

        return act

    def play(self, params: nnx.State, keys: Array) -> Trials:
        """Trials of the policy."""
        model = nnx.merge(self.graphdef, params)
        return play(self.environment, keys, self.agent(params), model.init_cache(len(keys)))

    def train_step(self, state: TrainState, batch, key: Array):
        """Plays a batch of trials; some epochs of updates on parts of it."""
        options = self.config.ppo
        trials = self.play(state.params, row_keys(key, batch["index"]))
        parts = _parts(self._experience(trials), options.minibatches)
        progress = state.step / self.config.train.steps
        entropy_weight = options.entropy * (1.0 - progress)

        def loss(params, part):
            logits, values = nnx.merge(self.graphdef, params)(part.inputs)
            return ppo.loss(
                logits,
                values,
                part,
                clip=options.clip,
                value_weight=options.value_weight,
                entropy_weight=entropy_weight,
            )

        def update(carry, n):
            params, opt_state = carry
            part = jax.tree.map(lambda x: x[n % options.minibatches], parts)
            (value, watched), grads = jax.value_and_grad(loss, has_aux=True)(params, part)
            updates, opt_state = self.optimizer.update(grads, opt_state, params)
            watched |= {"loss": value, "grad_norm": optax.tree.norm(grads)}
            return (optax.apply_updates(params, updates), opt_state), watched

        (params, opt_state), watched = jax.lax.scan(
            update,
            (state.params, state.opt_state),
            jnp.arange(options.epochs * options.minibatches),
        )
        metrics = jax.tree.map(jnp.mean, watched) | {
            "reward": trials.rewards.sum(0).mean(),
            "items": jnp.float32(trials.rewards.size),
            "learning_rate": self.optimizer.learning_rate(
                state.step * options.epochs * options.minibatches
            ),
        }
        return TrainState(state.step + 1, params, opt_state), metrics

    def _experience(self, trials: Trials) -> ppo.Experience:
        """Trials as what is learned from them, `[B, T]`.

        All trials are as far at a step, so what is to come of rewards is mostly a matter of the
        step. That mean is the baseline, and the network's values are how much more or less a trial
        will earn, in standard deviations: nobody need learn to count, or say how large rewards are.
        """
        options = self.config.ppo
        trials = jax.tree.map(lambda x: jnp.swapaxes(x, 0, 1), trials)
        log_probs, values = trials.notes
        returns = ppo.generalized_advantages(
            trials.rewards, jnp.zeros_like(values), options.discount, 1.0
        )
        usual = returns.mean(0)
        scale = jnp.std(returns - usual) + 1e-8
        advantages = ppo.generalized_advantages(
            trials.rewards, usual + scale * values, options.discount, options.trace
        )
        normal = (advantages - advantages.mean(0)) / (advantages.std() + 1e-8)
        return ppo.Experience(
            self.encode(trials.seen), trials.actions, log_probs, normal, values + advantages / scale
        )

    # Evaluation.

    def evaluate(self, state: TrainState, split: str) -> dict[str, float]:
        """What a trial earns on the average, on the same fresh tasks at every call.

        Of a test split also what references earn in the same trials: `reward_gittins`; what one
        earns who knows the task: `optimum`; and where tasks differ in that, `normalised` rewards,
        which are quotients of the means. Where a trial has two episodes, the steps of each.
        """
        curves, scalars = self._curves(state, split)
        measures = {name: float(curve.sum()) for name, curve in curves.items()}
        if "optimum_discounted" in scalars:
            for optimum in ("optimum", "optimum_discounted"):
                name = optimum.replace("optimum", "normalised")
                measures |= {
                    agent.replace("reward", name): reward / scalars[optimum]
                    for agent, reward in measures.items()
                    if agent.startswith("reward")
                }
        return measures | scalars

    def _curves(self, state: TrainState, split: str):
        """Mean reward of each step `[T]`, of each agent; and means of what trials have besides."""
        rows = self.config.batch
        count = self.config.evaluated["test" if split == "test" else "dev"]
        total: Any = None
        for n in range(math.ceil(count / rows)):
            numbers = n * rows + np.arange(rows)
            with mesh.split_rows(state.params) as by_rows:
                trials = by_rows((numbers, numbers < count))
                sums = jax.device_get(self._measure(state.params, *trials, split=split))
            total = jax.tree.map(np.add, total, sums) if n else sums
        return jax.tree.map(lambda x: x / count, total)

    @cached_property
    def _measure(self):
        return jax.jit(self._sums, static_argnames="split")

    def _sums(self, params, numbers, counted, *, split):
        """Sums over those trials that are counted."""
        keys = row_keys(evaluation_key(split, 2018), numbers)
        trials = self.play(params, keys)
        curves = {"reward": trials.rewards @ counted}
        scalars: dict[str, Array] = {}
        if self.environment.episodes == 2:
            scalars |= _lengths(trials.done)
        if split == "test":
            others = references(self.environment)
            start = others.start(len(keys))
            for name, agent in others.agents.items():
                played = play(self.environment, keys, agent, start)
                curves[f"reward_{name}"] = played.rewards @ counted
                if self.environment.episodes == 2:
                    steps = _lengths(played.done)
                    scalars |= {f"{length}_{name}": x for length, x in steps.items()}
            scalars |= others.optima(tasks_of(self.environment, keys))
        return curves, {name: x @ counted for name, x in scalars.items()}

    # Pictures.

    def figures(self, state: TrainState) -> dict[str, Figure]:
        """Rewards over a trial beside the references, regret, and where attention looks."""
        curves, scalars = self._curves(state, "test")
        titles = {
            name: name.removeprefix("reward_").replace("_", " ").replace("reward", "ours")
            for name in curves
        }
        if not self.environment.even:
            return self._episodes(titles, scalars) | self._attention(state)
        episodes = self.environment.episodes
        earned = {titles[name]: x.reshape(episodes, -1).sum(1) for name, x in curves.items()}
        best = scalars["optimum"] / episodes if "optimum" in scalars else None
        figures = {"episodes": plotting.curves(earned, "episode of a trial", "reward", best)}
        if best is not None:
            regret = {name: np.cumsum(best - x) for name, x in earned.items()}
            figures["regret"] = plotting.curves(regret, "episode of a trial", "regret", None)
        return figures | self._attention(state)

    def _episodes(self, titles, scalars) -> dict[str, Figure]:
        """How long two episodes last, of each agent; rewards by step say nothing of episodes."""
        if "steps_1" not in scalars:
            return {}
        of_agent = lambda name: np.array([scalars[f"steps_{n}{name[6:]}"] for n in (1, 2)])
        lengths = {title: of_agent(name) for name, title in titles.items()}
        return {
            "episodes": plotting.curves(lengths, "episode of a trial", "steps to its end", None)
        }

    def _attention(self, state: TrainState) -> dict[str, Figure]:
        """Where choices of one trial look, if the network has attention."""
        model = nnx.merge(self.graphdef, state.params)
        trials = self._one_trial(state)
        inputs = jnp.swapaxes(self.encode(trials.seen), 0, 1)[:, :SHOWN]
        weights = [np.asarray(x) for x in jax.jit(model.weights)(inputs)]
        if not weights:
            return {}
        steps = _told(trials)[:SHOWN]
        before = ["–", *steps][: len(steps)]  # what a step sees is what the last one did
        title = "Where a choice (row) looks: the step after each action and its reward (column)"
        return {"attention": plotting.attention_heads(weights, before, steps, title)}

    def samples(self, state: TrainState) -> str:
        """A trial: its actions, each with what it earned."""
        return "a trial, as action:reward\n  " + " ".join(_told(self._one_trial(state)))

    def _one_trial(self, state: TrainState) -> Trials:
        keys = row_keys(evaluation_key("figures", 2018), jnp.arange(1))
        return jax.device_get(jax.jit(self.play)(state.params, keys))


def _told(trials: Trials) -> list[str]:
    """Each step of the first trial in a few letters."""
    steps = zip(trials.actions[:, 0], trials.rewards[:, 0], strict=True)
    return [f"{action}:{reward:.2g}" for action, reward in steps]


def _lengths(done: Bool[Array, "T B"]) -> dict[str, Float[Array, " B"]]:
    """Steps of the first and the second episode; one without an end lasts to that of the trial."""
    ended = jnp.cumsum(done, axis=0) - done  # episodes before each step
    return {f"steps_{n + 1}": jnp.sum(ended == n, axis=0).astype(jnp.float32) for n in range(2)}


def _parts(experience: Any, count: int) -> Any:
    """[B, ...] to [count, B / count, ...]: trials are alike, so they need no shuffling."""
    return jax.tree.map(lambda x: microbatches(x, count), experience)
