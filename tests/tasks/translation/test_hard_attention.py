"""Translation with sampled attention: configuration, REINFORCE gradients, baseline, evaluation."""

from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import tasks
from configs import seq2seq_nmt
from models.attention_layer import AlignmentOutput
from tasks.hard_attention import DECAY
from tasks.translation.hard_attention import build_abstract
from tasks.vocabulary import EOS, PAD
from tests.models.tiny import unoptimized_jit
from training.errors import UserError


def smoke_config(task, alignment):
    config = seq2seq_nmt.get_config("smoke")
    config.task = task
    config.model.attention.alignment = alignment
    return config


@pytest.fixture
def config():
    return smoke_config("translation.hard_attention", "hard")


@pytest.mark.parametrize(
    "task, alignment", [("translation", "hard"), ("translation.hard_attention", "soft")]
)
def test_task_and_alignment_must_match(task, alignment, tmp_path):
    with pytest.raises(UserError, match="requires --config.task=translation.hard_attention"):
        tasks.build(smoke_config(task, alignment), str(tmp_path))


def test_evaluation_samples_with_a_new_key_per_batch(config, tmp_path, monkeypatch):
    task, keys = tasks.build(config, str(tmp_path)), []

    def decode_batch(params, batch, width, key, *_):
        keys.append(None if key is None else jax.random.key_data(key).tolist())
        output = np.full((len(batch["source"]), 1), EOS)
        return output, output, 1.0, 1.0

    monkeypatch.setattr(task.decoder, "_decode_batch", decode_batch)
    metrics = task.evaluate(SimpleNamespace(params=jnp.zeros(())), "test")
    assert {"exact_match", "exact_match_sampled"} <= metrics.keys()
    sampled = [str(key) for key in keys if key is not None]
    assert len(sampled) > 1
    assert len(set(sampled)) == len(sampled)


def test_baseline_is_a_moving_average_of_the_reward(config, tmp_path):
    task = build_abstract(config, str(tmp_path))
    state = unoptimized_jit(task.init)(jax.random.key(0))
    np.testing.assert_allclose(state.baseline, -np.log(task.vocabulary_size), rtol=1e-6)
    tokens = np.random.default_rng(0).integers(4, task.vocabulary_size, (2, 2, 5))
    batch = {"source": jnp.asarray(tokens[0]), "target": jnp.asarray(tokens[1])}
    new, metrics = unoptimized_jit(task.train_step)(state, batch, jax.random.key(1))
    expected = DECAY * state.baseline + (1 - DECAY) * metrics["log_prob"]
    np.testing.assert_allclose(new.baseline, expected, rtol=1e-5)
    assert metrics["log_prob"] < 0 < metrics["entropy"]


def test_gradients_equal_the_equations(config, tmp_path):
    """Samples are weighted by the reward-to-go minus the baseline, entropies by lambda_e."""
    task, rng = build_abstract(config, str(tmp_path)), np.random.default_rng(0)
    target = np.array([[5, 3, 4, 2], [4, 2, PAD, PAD]])
    states, embedding = rng.normal(size=(2, 4, 3)), rng.normal(size=(7, 3))
    log_prob, entropy = (jnp.asarray(x, jnp.float32) for x in rng.random((2, 2, 4)))

    @unoptimized_jit
    def gradients(embedding, log_prob, entropy, baseline):
        def loss(embedding, log_prob, entropy):
            layer = SimpleNamespace(entropy_weight=0.3)
            model = SimpleNamespace(output_embedding=embedding, attention_layer=layer)
            alignment = AlignmentOutput(jnp.zeros((2, 4, 5)), None, log_prob, entropy)
            task._teacher_force = lambda *_: (model, jnp.asarray(states, jnp.float32), alignment)
            batch = {"target": jnp.asarray(target), "baseline": baseline}
            return task.loss(None, batch, None)[0]

        return jax.grad(loss, (0, 1, 2))(embedding, log_prob, entropy)

    inputs, baseline = (jnp.asarray(embedding, jnp.float32), log_prob, entropy), [-1.5, -2.5]
    d_embedding, d_log_prob, d_entropy = gradients(*inputs, jnp.array(baseline))

    logits = states @ embedding.T
    rewards = logits - np.log(np.exp(logits).sum(-1, keepdims=True))
    expected = np.zeros((2, 4))
    for b, length in enumerate((4, 2)):
        for t in range(length):
            later = range(t, length)
            expected[b, t] = -sum(rewards[b, u, target[b, u]] - baseline[b] for u in later)
    np.testing.assert_allclose(d_log_prob, expected, rtol=1e-4)
    np.testing.assert_allclose(d_entropy, -0.3 * (target != PAD), rtol=1e-6)
    # The reward is a constant, so the baseline does not affect the gradient of other parameters.
    np.testing.assert_array_equal(d_embedding, gradients(*inputs, jnp.zeros(2))[0])
