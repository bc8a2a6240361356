"""Hard attention: what goes together, what a draw answers for, and the baseline's way."""

from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import tasks
from configs import seq2seq_nmt
from models.seq2seq.attention_layer import Aligned
from tasks.translation.data.vocabulary import PAD
from tasks.translation.hard_attention import DECAY, build_abstract
from training.errors import UserError


def config(task, alignment):
    config = seq2seq_nmt.get_config("smoke")
    config.task = task
    config.model.attention.alignment = alignment
    return config


@pytest.mark.parametrize(
    "choice", [("translation", "hard"), ("translation.hard_attention", "soft")]
)
def test_the_task_and_the_alignment_go_together(choice, tmp_path):
    with pytest.raises(UserError, match="goes with --config.task=translation.hard_attention"):
        tasks.build(config(*choice), str(tmp_path))


def test_every_batch_of_a_test_is_drawn_anew(tmp_path, monkeypatch):
    task = tasks.build(config("translation.hard_attention", "hard"), str(tmp_path))
    state, keys = jax.jit(task.init)(jax.random.key(0)), []
    decode = type(task)._decode_batch

    def spied(task, params, batch, width, key=None):
        keys.append(None if key is None else jax.random.key_data(key).tolist())
        return decode(task, params, batch, width, key)

    monkeypatch.setattr(type(task), "_decode_batch", spied)
    task.evaluate(state, "test")
    drawn = [str(key) for key in keys if key is not None]
    assert len(drawn) > 1 and len(set(drawn)) == len(drawn)


def test_the_baseline_is_a_moving_average_and_changes_the_gradient(tmp_path):
    task = tasks.build(config("translation.hard_attention", "hard"), str(tmp_path))
    state = jax.jit(task.init)(jax.random.key(0))
    np.testing.assert_allclose(state.baseline, -np.log(len(task.vocabulary)), rtol=1e-6)
    batch = jax.device_put(next(task.batches("train", 0)))
    step = jax.jit(task.train_step)
    new, metrics = step(state, batch, jax.random.key(1))
    expected = DECAY * state.baseline + (1 - DECAY) * metrics["log_prob"]
    np.testing.assert_allclose(new.baseline, expected, rtol=1e-5)
    assert metrics["log_prob"] < 0 < metrics["entropy"]

    # Only what decides where to look answers to the baseline: not the output weights.
    @jax.jit
    def gradient(baseline):
        told = batch | {"baseline": jnp.full(len(batch["target"]), baseline)}
        return jax.grad(lambda params: task.loss(params, told, jax.random.key(1))[0])(state.params)

    one, other = gradient(0.0), gradient(-9.0)
    np.testing.assert_allclose(one["output"][...], other["output"][...], atol=1e-5)
    one, other = (g["mechanism"]["query"][...] for g in (one, other))
    assert jnp.abs(one - other).max() > 0.1 * jnp.abs(one).max() > 0


def test_a_draw_answers_for_the_tokens_from_its_own_on(tmp_path):
    """And each bit of entropy is paid for alike; padding is neither."""
    chosen, rng = config("translation.hard_attention", "hard"), np.random.default_rng(0)
    chosen.model.attention.entropy = 0.3
    task = build_abstract(chosen, str(tmp_path))
    target = np.array([[5, 3, 4, 2], [4, 2, PAD, PAD]])
    states, table = rng.normal(size=(2, 4, 3)), rng.normal(size=(7, 3))
    baseline = np.array([-1.5, -2.5])
    log_prob, entropy = (jnp.asarray(x, jnp.float32) for x in rng.random((2, 2, 4)))

    @jax.jit
    def gradients(log_prob, entropy):
        model = SimpleNamespace(
            output_table=jnp.asarray(table, jnp.float32), mechanism=SimpleNamespace(entropy=0.3)
        )
        taught = jnp.asarray(states, jnp.float32)

        def loss(log_prob, entropy):
            aligned = Aligned(jnp.zeros((2, 4, 5)), None, log_prob, entropy)
            task._teach = lambda *_: (model, taught, aligned)
            batch = {"target": jnp.asarray(target), "baseline": jnp.asarray(baseline, jnp.float32)}
            return task.loss(None, batch, None)[0]

        return jax.grad(loss, (0, 1))(log_prob, entropy)

    found, bonus = gradients(log_prob, entropy)
    logits = states @ table.T
    rewards = logits - np.log(np.exp(logits).sum(-1, keepdims=True))
    expected = np.zeros((2, 4))
    for b, length in enumerate((4, 2)):
        for t in range(length):
            to_come = range(t, length)
            expected[b, t] = -sum(rewards[b, u, target[b, u]] - baseline[b] for u in to_come)
    np.testing.assert_allclose(found, expected, rtol=1e-4)
    np.testing.assert_allclose(bonus, -0.3 * (target != PAD), rtol=1e-6)
