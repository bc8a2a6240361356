"""Learning to learn: what is learned from is what happened; a tiny policy learns; its measures."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from ml_collections import ConfigDict

import tasks
from configs.snail_bandits import get_config as bandits
from configs.snail_maze import get_config as mazes
from configs.snail_mdp import get_config as mdps
from tasks.meta_rl.task import _lengths
from tests.commands import fast_compilation
from training.errors import UserError


@pytest.fixture(autouse=True, scope="module")
def _quickly():
    with fast_compilation():
        yield


KEY = jax.random.key(0)


def task_of(config: ConfigDict, **changes):
    with config.unlocked():
        config.update_from_flattened_dict(changes)
    return tasks.build(config, "")


@pytest.fixture(scope="module")
def learnt():
    """A task of two arms and six pulls, before and after some training, and the last metrics."""
    sizes = {"environment.sizes.arms": 2, "environment.sizes.pulls": 6, "batch": 200}
    more = {
        "train.steps": 60,
        "optimizer.peak": 1e-2,
        "evaluated.dev": 2000,
    }
    task = task_of(bandits("smoke"), **sizes, **more)
    first = state = task.init(KEY)
    batch, step = next(task.batches("train", 0)), jax.jit(task.train_step)
    for n in range(60):
        state, metrics = step(state, batch, jax.random.fold_in(KEY, n))
    return task, first, state, metrics


def test_a_tiny_policy_learns_to_learn(learnt):
    """At random 3; whoever stays where it paid earns more, and not by knowing an arm beforehand."""
    task, first, state, _ = learnt
    before, after = (task.evaluate(x, "dev")["reward"] for x in (first, state))
    assert abs(before - 3.0) < 0.12
    assert after > 3.45, after
    trials = jax.jit(task.play)(state.params, jax.random.split(KEY, 500))
    shares = np.bincount(trials.actions.ravel(), minlength=2) / trials.actions.size
    won = trials.rewards[:-1] == 1
    stays = trials.actions[1:] == trials.actions[:-1]
    assert stays[won].mean() > stays[~won].mean() + 0.2, shares


def test_entropy_falls_and_values_become_true(learnt):
    """Values err less than the best constant does, though a first pull cannot be foreseen."""
    task, _, state, metrics = learnt
    assert metrics["entropy"] < 0.9 * np.log(2) and np.isfinite(metrics["loss"])
    trials = jax.jit(task.play)(state.params, jax.random.split(KEY, 2000))
    returns, values = task._experience(trials).returns, trials.notes[1].T
    assert jnp.mean((values - returns) ** 2) < 0.95 * jnp.var(returns)


def test_a_first_update_is_of_the_policy_that_played(learnt):
    """Step by step or at once, trials have the same probabilities: nothing has diverged yet."""
    task, _, state, _ = learnt
    with task.config.unlocked():
        kept = task.config.ppo.to_dict()
        task.config.ppo.update(epochs=1, minibatches=1)
        _, metrics = jax.jit(task.train_step)(state, next(task.batches("train", 0)), KEY)
        task.config.ppo.update(kept)
    assert abs(metrics["kl"]) < 1e-6 and metrics["clipped"] == 0


def test_what_all_earn_alike_and_in_what_coin_teaches_nothing(learnt):
    """Rewards times a number, plus what a step pays to everyone: the same is learned from them."""
    task, _, state, _ = learnt
    trials = jax.jit(task.play)(state.params, jax.random.split(KEY, 50))
    steps = jnp.arange(len(trials.rewards), dtype=jnp.float32)[:, None]
    found, expected = (
        task._experience(trials._replace(rewards=rewards))
        for rewards in (3.0 * trials.rewards + steps, trials.rewards)
    )
    assert jnp.std(expected.advantages) > 0.9
    np.testing.assert_allclose(found.advantages, expected.advantages, rtol=1e-3, atol=1e-4)
    np.testing.assert_allclose(found.returns, expected.returns, rtol=1e-3, atol=1e-4)


def test_measures_do_not_depend_on_how_trials_are_batched():
    """A trial depends on its own key; what fills up the last batch is not counted."""
    sizes = {"evaluated.test": 10, "ppo.minibatches": 1}
    found = []
    for rows in (10, 4):
        task = task_of(bandits("smoke"), batch=rows, **sizes)
        found.append(task.evaluate(task.init(KEY), "test"))
    assert (
        found[0].keys() == found[1].keys() >= {"reward", "reward_gittins", "reward_ucb1", "optimum"}
    )
    for name, value in found[0].items():
        np.testing.assert_allclose(found[1][name], value, rtol=1e-6, err_msg=name)


def test_rewards_of_processes_are_parts_of_both_optima():
    task = task_of(mdps("smoke"))
    measures = task.evaluate(task.init(KEY), "test")
    assert measures["optimum"] > measures["optimum_discounted"]
    for agent in ("", "_random", "_psrl", "_opsrl", "_ucrl2", "_epsilon_greedy"):
        for kind in ("", "_discounted"):
            expected = measures[f"reward{agent}"] / measures[f"optimum{kind}"]
            np.testing.assert_allclose(measures[f"normalised{kind}{agent}"], expected)


def test_lengths_by_hand():
    done = jnp.array([[0, 0, 1, 0, 1, 0], [0, 0, 0, 0, 0, 1], [1, 1, 0, 0, 0, 0]], bool).T
    found = _lengths(done)
    np.testing.assert_array_equal(found["steps_1"], [3, 6, 1])
    np.testing.assert_array_equal(found["steps_2"], [2, 0, 1])


def test_episodes_that_end_when_they_do_are_drawn_by_their_lengths():
    task = task_of(mazes("smoke"))
    state = task.init(KEY)
    measures, figures = task.evaluate(state, "test"), task.figures(state)
    drawn = {line.get_label(): line.get_ydata() for line in figures["episodes"].axes[0].lines}
    for name, suffix in (("ours", ""), ("random", "_random")):
        lengths = [measures[f"steps_{n}{suffix}"] for n in (1, 2)]
        np.testing.assert_allclose(drawn[name], lengths)
    assert "regret" not in figures


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"environment.kind": "bandits"}, "is not one of bandit, mdp, maze. Did you mean 'bandit'"),
        ({"environment.sizes.arms": 0}, "There must be one of the arms at least"),
        ({"model.blocks": "TC32"}, "section 'model' is no good: blocks must be like"),
        ({"ppo.minibatches": 3}, "cannot be cut into ppo.minibatches=3 equal parts"),
    ],
)
def test_what_cannot_be_is_a_sentence(changes, said):
    with pytest.raises(UserError, match=said):
        task_of(bandits("smoke"), **changes)
