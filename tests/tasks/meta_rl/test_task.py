"""Meta-RL task: training of a small policy, its training data, and the evaluation metrics."""

from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from ml_collections import ConfigDict

import tasks
from configs import snail_bandits, snail_maze, snail_mdp
from tasks.base import evaluation_key
from tasks.meta_rl import MetaRL, ppo
from tasks.meta_rl.task import EVALUATION_SEED, _episode_lengths
from tasks.meta_rl.trials import Trials, trial_keys
from tests.commands import fast_compilation
from training.errors import UserError

KEY = jax.random.key(0)


@pytest.fixture(autouse=True, scope="module")
def _fast_compilation():
    with fast_compilation():
        yield


def build(config: ConfigDict, **changes: Any) -> MetaRL:
    with config.unlocked():
        config.update_from_flattened_dict(changes)
    return tasks.build(config, "")


class Training(NamedTuple):
    """Task with two arms and six pulls, after 60 training steps, and rollouts of its policy."""

    task: MetaRL
    params: nnx.State
    metrics: dict[str, Any]  # of the last step
    before: Trials
    after: Trials


@pytest.fixture(scope="module")
def training():
    sizes = {"environment.sizes.arms": 2, "environment.sizes.pulls": 6, "batch": 200}
    options = {"train.steps": 60, "optimizer.learning_rate": 1e-2}
    task = build(snail_bandits.get_config("smoke"), **sizes, **options)
    initial = state = task.init(KEY)
    batch, train_step = next(task.batches("train", 0)), jax.jit(task.train_step)
    for n in range(60):
        state, metrics = train_step(state, batch, jax.random.fold_in(KEY, n))
    keys = trial_keys(evaluation_key("dev", EVALUATION_SEED), jnp.arange(2000))
    rollout = partial(jax.jit(task.rollout), keys=keys)
    return Training(task, state.params, metrics, rollout(initial.params), rollout(state.params))


@pytest.fixture(scope="module")
def to_experience(training):
    return jax.jit(training.task._experience)


def test_policy_adapts_within_a_trial(training):
    """The expected reward of any policy without adaptation is 3."""
    before, after = (trials.rewards.sum(0).mean() for trials in (training.before, training.after))
    assert abs(before - 3.0) < 0.12
    assert after > 3.45, after
    trials = jax.device_get(training.after)
    repeated = trials.actions[1:] == trials.actions[:-1]
    rewarded = trials.rewards[:-1] == 1
    assert repeated[rewarded].mean() > repeated[~rewarded].mean() + 0.2


def test_training_reduces_entropy_and_value_error(training, to_experience):
    """The value error is below the variance, although the first pull is unpredictable."""
    metrics = training.metrics
    assert metrics["entropy"] < 0.9 * np.log(2) and np.isfinite(metrics["loss"])
    returns, values = to_experience(training.after).returns, training.after.outputs[1].T
    assert jnp.mean((values - returns) ** 2) < 0.95 * jnp.var(returns)


def test_log_probs_of_rollout_match_whole_sequence(training, to_experience):
    """The first PPO update starts from the policy that generated the trials."""
    task = training.task

    @jax.jit
    def loss(params, experience):
        logits, values = nnx.merge(task.graphdef, params)(experience.inputs)
        weights = {"clip": 0.2, "value_weight": 1.0, "entropy_weight": 0.0}
        return ppo.loss(logits, values, experience, **weights)

    _, metrics = loss(training.params, to_experience(training.after))
    assert abs(metrics["kl"]) < 1e-6 and metrics["clip_fraction"] == 0


def test_targets_of_the_values_are_normalized_discounted_returns(training, to_experience):
    rewards, returns = np.asarray(training.after.rewards), []
    for reward in rewards[::-1]:
        returns.insert(0, reward + training.task.config.ppo.discount * np.sum(returns[:1], 0))
    deviations = np.stack(returns) - np.mean(returns, axis=1, keepdims=True)
    expected = deviations.T / deviations.std()
    np.testing.assert_allclose(to_experience(training.after).returns, expected, atol=1e-4)


def test_experience_is_invariant_to_reward_scale_and_offset_by_step(training, to_experience):
    trials = training.after
    offset = jnp.arange(len(trials.rewards), dtype=jnp.float32)[:, None]
    actual = to_experience(trials._replace(rewards=3.0 * trials.rewards + offset))
    expected = to_experience(trials)
    assert jnp.std(expected.advantages) > 0.9
    np.testing.assert_allclose(actual.advantages, expected.advantages, rtol=1e-3, atol=1e-4)
    np.testing.assert_allclose(actual.returns, expected.returns, rtol=1e-3, atol=1e-4)


@pytest.fixture(scope="module")
def maze_evaluations():
    """Task, state and test metrics by batch size, for ten test trials."""
    evaluations = {}
    for batch_size in (10, 4):
        sizes = {"batch": batch_size, "ppo.minibatches": 1, "evaluation.test_trials": 10}
        task = build(snail_maze.get_config("smoke"), **sizes, **{"model.blocks": "Att(2,2)"})
        state = task.init(KEY)
        evaluations[batch_size] = task, state, task.evaluate(state, "test")
    return evaluations


def test_metrics_do_not_depend_on_batch_size(maze_evaluations):
    """Padding of the last batch does not count."""
    metrics, other = (maze_evaluations[batch_size][2] for batch_size in (10, 4))
    assert metrics.keys() == other.keys() >= {"reward", "reward_random", "steps_1", "steps_2"}
    for name, value in metrics.items():
        np.testing.assert_allclose(other[name], value, rtol=1e-6, err_msg=name)


def test_figure_of_variable_length_episodes_has_their_lengths(maze_evaluations):
    task, state, metrics = maze_evaluations[4]
    figures = task.figures(state)
    lines = {line.get_label(): line.get_ydata() for line in figures["episodes"].axes[0].lines}
    for label, suffix in (("ours", ""), ("random", "_random")):
        lengths = [metrics[f"steps_{n}{suffix}"] for n in (1, 2)]
        np.testing.assert_allclose(lines[label], lengths)
    np.testing.assert_allclose(lines["optimum"], metrics["steps_optimum"])
    assert "regret" not in figures


def test_mdp_rewards_are_normalized_by_both_optima():
    task = build(snail_mdp.get_config("smoke"), **{"model.blocks": "GRU(2)"})
    metrics = task.evaluate(task.init(KEY), "test")
    assert metrics["optimum"] > metrics["optimum_discounted"]
    for agent in ("", "_random", "_psrl", "_opsrl", "_ucrl2", "_epsilon_greedy"):
        for kind in ("", "_discounted"):
            expected = metrics[f"reward{agent}"] / metrics[f"optimum{kind}"]
            np.testing.assert_allclose(metrics[f"normalized{kind}{agent}"], expected)


def test_episode_lengths_count_the_steps_of_finished_episodes():
    done = jnp.array([[0, 0, 1, 0, 1, 0], [0, 0, 0, 0, 0, 1], [1, 1, 0, 0, 0, 0]], bool).T
    lengths = _episode_lengths(done)
    np.testing.assert_array_equal(lengths["steps_1"], [3, 6, 1])
    np.testing.assert_array_equal(lengths["steps_2"], [2, 0, 1])


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"environment.kind": "bandits"},
            "choose from bandit, mdp, maze. Did you mean 'bandit'",
        ),
        ({"environment.sizes.arms": 0}, "environment.sizes.arms must be at least 1"),
        ({"model.blocks": "TC32"}, "config section 'model': invalid block 'TC32'"),
        ({"model.blocks": ""}, "config section 'model': blocks is empty"),
        ({"ppo.minibatches": 3}, "cannot be split into ppo.minibatches=3 equal parts"),
        ({"ppo.clp": 0.2}, "config section 'ppo': .* unexpected keyword argument 'clp'"),
        ({"batch": 1, "ppo.minibatches": 1}, "batch must be at least 2 trials"),
    ],
)
def test_invalid_config_is_rejected(changes, message):
    with pytest.raises(UserError, match=message):
        build(snail_bandits.get_config("smoke"), **changes)
