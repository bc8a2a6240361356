"""REINFORCE on the traveling salesman problem: learning, baselines and config errors."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

import tasks
from configs import attention_model_tsp20, ptrnet_tsp20_rl
from tasks.pointing.tsp import reference_tours, tour_lengths
from tasks.pointing.tsp_reinforce import is_significantly_less, leave_one_out_mean
from tests.commands import fast_compilation
from tests.tasks.pointing.small import small_config
from training.errors import UserError

STEPS = 100
CITIES = np.random.default_rng(0).random((8, 6, 2)).astype(np.float32)


def train(workdir, baseline, model=None, starts="first", learning_rate=2e-2):
    """Mean lengths of tours sampled for eight fixed instances, and all baseline parameters."""
    config = small_config(ptrnet_tsp20_rl, sizes=(6, 6))
    config.model.update(hidden=16, width=16, logit_clipping=10.0, decoder_inputs="annotations")
    config.model = model or config.model
    config.reinforce = {"samples": 8, "starts": starts, "baseline": baseline}
    config.optimizer.learning_rate = learning_rate
    task, key = tasks.build(config, str(workdir)), jax.random.key(0)
    task.sample_points = lambda batch, key: (jnp.asarray(CITIES), jnp.int32(6))
    with fast_compilation():
        state = jax.jit(task.init)(key)
        step = jax.jit(
            lambda state: task.train_step(
                state, {"index": jnp.arange(8)}, jax.random.fold_in(key, state.step)
            )
        )
        lengths, baselines = [], [state.baseline_params]
        for _ in range(STEPS):
            state, metrics = step(state)
            lengths.append(float(metrics["loss"]))
            baselines.append(state.baseline_params)
    return lengths, baselines


def assert_learned(lengths):
    """Assert that the mean length decreases from random tours to within 10% of the optimum."""
    optimum = tour_lengths(CITIES, np.stack(reference_tours(CITIES))).mean()
    assert np.mean(lengths[:5]) > 1.3 * optimum and np.mean(lengths[-20:]) < 1.1 * optimum


def test_policy_learns_with_leave_one_out_baseline(tmp_path):
    lengths, _ = train(tmp_path, {"kind": "leave_one_out"})
    assert_learned(lengths)


def test_attention_model_learns_with_tours_from_each_city(tmp_path):
    options = {"kind": "attention_model", "init_limit": 0.0, "hidden": 16, "layers": 1, "heads": 2}
    model = options | {"logit_clipping": 10.0}
    lengths, _ = train(tmp_path, {"kind": "leave_one_out"}, model, "each", learning_rate=7e-4)
    assert_learned(lengths)


def test_policy_learns_with_rollout_baseline_updated_at_its_interval(tmp_path):
    baseline = {"kind": "rollout", "update_every": 10, "instances": 8}
    lengths, baselines = train(tmp_path, baseline)
    assert_learned(lengths)
    equal = lambda x, y: jax.tree.all(jax.tree.map(np.array_equal, x, y))
    changed = [n + 1 for n, pair in enumerate(itertools.pairwise(baselines)) if not equal(*pair)]
    assert changed and all(step % 10 == 0 for step in changed)


def test_first_rollout_baseline_is_the_policy_that_training_starts_with(tmp_path):
    """`train.init_from` replaces the parameters of the initial state, and no others."""
    config = small_config(ptrnet_tsp20_rl, sizes=(4, 4))
    config.reinforce.baseline = {"kind": "rollout", "update_every": 100, "instances": 2}
    task, key = tasks.build(config, str(tmp_path)), jax.random.key(0)
    with fast_compilation():
        pretrained = task.init(jax.random.key(1)).params
        state = task.init(key)._replace(params=pretrained)
        step = jax.jit(task.train_step)
        for _ in range(2):
            state, _ = step(state, {"index": jnp.arange(2)}, key)
            assert jax.tree.all(jax.tree.map(np.array_equal, state.baseline_params, pretrained))
    assert not jax.tree.all(jax.tree.map(np.array_equal, state.params, pretrained))


def test_initial_weights_of_the_critic_do_not_depend_on_those_of_the_policy(tmp_path, monkeypatch):
    config = small_config(ptrnet_tsp20_rl, sizes=(4, 4))
    config.reinforce.baseline = {"kind": "critic", "steps": 1}
    task, key, critic_keys = tasks.build(config, str(tmp_path)), jax.random.key(0), []
    create = task.create_critic
    monkeypatch.setattr(task, "create_critic", lambda key: critic_keys.append(key) or create(key))
    with fast_compilation():
        task.init(key)
    parts = jax.random.key_data(jax.random.split(key, 16)).tolist()
    assert jax.random.key_data(critic_keys[0]).tolist() not in parts


@pytest.mark.slow
def test_policy_and_critic_learn_together(tmp_path):
    lengths, _ = train(tmp_path, {"kind": "critic", "steps": 2})
    assert_learned(lengths)


@pytest.mark.slow
def test_critic_step_equals_the_formula(tmp_path):
    """The advantage is the length minus the prediction, whose squared error the critic reduces."""
    config = small_config(ptrnet_tsp20_rl, sizes=(6, 6))
    baseline = {"kind": "critic", "steps": 2}
    config.reinforce = {"samples": 1, "starts": "first", "baseline": baseline}
    sgd = {"method": "sgd", "learning_rate": 0.1, "clip": 0.0}
    config.optimizer = sgd | {"decay_rate": 1.0, "decay_start": 0, "decay_every": 1}
    task = tasks.build(config, str(tmp_path))
    task.sample_points = lambda batch, key: (jnp.asarray(CITIES), jnp.int32(6))
    with fast_compilation():
        state = jax.jit(task.init)(jax.random.key(0))
        new, metrics = jax.jit(task.train_step)(state, None, jax.random.key(1))

    def predict(params):
        return nnx.merge(task.critic_graphdef, params)(jnp.asarray(CITIES), jnp.int32(6))

    key = jax.random.split(jax.random.key(1), 3)[1]
    tours = task.decode_tours(state.params, jnp.asarray(CITIES), jnp.int32(6), key)[:, 0]
    lengths = tour_lengths(CITIES, np.asarray(tours))
    predictions = np.asarray(predict(state.baseline_params))
    np.testing.assert_allclose(metrics["loss"], lengths.mean(), rtol=1e-5)
    np.testing.assert_allclose(metrics["advantage"], np.mean(lengths - predictions), rtol=1e-4)
    expected = np.mean((lengths - predictions) ** 2)
    np.testing.assert_allclose(metrics["critic_loss"], expected, rtol=1e-4)
    # Output bias of the critic: the gradient of the mean squared error is twice the mean error.
    bias = lambda state: np.asarray(state.baseline_params["output_bias"][...])
    step = -0.1 * 2 * np.mean(predictions - lengths)
    np.testing.assert_allclose(bias(new) - bias(state), [step], rtol=1e-4)


def test_leave_one_out_mean_excludes_the_element_itself():
    actual = leave_one_out_mean(jnp.array([[1.0, 2.0, 6.0], [0.0, 0.0, 3.0]]))
    np.testing.assert_allclose(actual, [[4.0, 3.5, 1.5], [1.5, 1.5, 0.0]])


@pytest.mark.parametrize(("mean", "expected"), [(-0.06, True), (-0.04, False), (0.06, False)])
def test_baseline_comparison_is_a_one_sided_test_at_5_percent(mean, expected):
    """For 1,000 pairs whose differences have standard deviation 1, t is 31.6 times the mean."""
    rng = np.random.default_rng(0)
    noise, y = rng.normal(size=(2, 1_000))
    noise = (noise - noise.mean()) / noise.std(ddof=1)
    x = y + noise + mean
    assert is_significantly_less(jnp.asarray(x), jnp.asarray(y)) == expected


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            {"baseline": {"kind": "leave_one"}},
            "must be 'leave_one_out' or 'rollout' or 'critic', not 'leave_one'. "
            "Did you mean 'leave_one_out'",
        ),
        (
            {"baseline": {"kind": "rollout"}},
            "of kind 'rollout' must have the keys instances and update_every",
        ),
        (
            {"baseline": {"kind": "leave_one_out", "instances": 9}},
            "of kind 'leave_one_out' must have no other keys",
        ),
        (
            {"baseline": {"kind": "rollout", "update_every": 0, "instances": 9}},
            "reinforce.baseline.update_every must be at least 1, not 0",
        ),
        (
            {"baseline": {"kind": "rollout", "update_every": 1, "instances": 1}},
            "reinforce.baseline.instances must be at least 2",
        ),
        (
            {"baseline": {"kind": "critic", "steps": 1.5}},
            "reinforce.baseline.steps must be an integer, not 1.5",
        ),
        ({"samples": 1}, "samples must be at least 2 for the leave_one_out baseline, not 1"),
        ({"starts": "all"}, "reinforce.starts must be 'first' or 'each', not 'all'"),
    ],
)
def test_invalid_reinforce_options_are_rejected(options, message, tmp_path):
    config = ptrnet_tsp20_rl.get_config("smoke")
    config.reinforce = config.reinforce.to_dict() | options
    with pytest.raises(UserError, match=message):
        tasks.build(config, str(tmp_path))


def test_fixed_output_layer_is_rejected(tmp_path):
    config = ptrnet_tsp20_rl.get_config("smoke")
    config.model.kind = "seq2seq"
    with pytest.raises(UserError, match="model.kind must be 'pointer'"):
        tasks.build(config, str(tmp_path))


def test_critic_without_pointer_network_is_rejected(tmp_path):
    config = attention_model_tsp20.get_config("smoke")
    config.reinforce.baseline = {"kind": "critic", "steps": 2}
    with pytest.raises(UserError, match="model.kind must be 'pointer' for the critic baseline"):
        tasks.build(config, str(tmp_path))


def test_unmasked_training_is_rejected(tmp_path):
    config = ptrnet_tsp20_rl.get_config("smoke")
    config.mask_invalid = False
    with pytest.raises(UserError, match="mask_invalid must be True"):
        tasks.build(config, str(tmp_path))


def test_microbatches_are_rejected(tmp_path):
    config = ptrnet_tsp20_rl.get_config("smoke")
    config.train.accumulate = 2
    with pytest.raises(UserError, match="train.accumulate must be 1"):
        tasks.build(config, str(tmp_path))
