"""Answers of the Neural Turing Machine: their cost, step by step, and their measures by hand."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import tasks
from configs import ntm_copy
from tasks.memory.sequences import Episode, draw
from tasks.memory.task import answer_cost

KEY, ROWS = jax.random.key(0), 3
BITS = 2 * 9  # of an answer: two vectors of nine channels


def test_the_cost_is_the_cross_entropy_of_what_is_asked_for():
    rng = np.random.default_rng(0)
    logits, targets = 3.0 * rng.normal(size=(5, 3, 4)), rng.integers(0, 2, (5, 3, 4))
    scored = rng.random((5, 3)) < 0.6
    expected = np.zeros((5, 3))
    for step in np.argwhere(scored):
        for logit, bit in zip(logits[*step], targets[*step], strict=True):
            one = 1.0 / (1.0 + np.exp(-logit))
            expected[*step] -= np.log(one if bit else 1.0 - one)
    arrays = (jnp.zeros((5, 3, 1)), jnp.asarray(targets, jnp.float32), jnp.asarray(scored))
    found = answer_cost(jnp.asarray(logits, jnp.float32), Episode(*arrays))
    np.testing.assert_allclose(found, expected, rtol=1e-5)


@pytest.fixture(scope="module")
def copying():
    """A task of copying two vectors, and some of its sequences."""
    config = ntm_copy.get_config("smoke")
    config.episodes.sizes = {"length": (2, 2)}
    task = tasks.build(config, "")
    return task, draw(task.families["train"], jax.random.split(KEY)[0], jnp.arange(ROWS))[0]


def right(episode):
    """Logits sure of every bit that is asked for, and of nothing but wrong ones elsewhere."""
    sure = jnp.where(episode.targets > 0.5, 40.0, -40.0)
    return jnp.where(episode.scored[..., None], sure, 40.0)


def measures(task, monkeypatch, logits):
    """Those of logits in the place of the model's."""
    monkeypatch.setattr("tasks.memory.task.nnx.merge", lambda *_: lambda *_: logits)
    return task._measure(None, KEY, {"index": jnp.arange(ROWS)}, task.families["train"])


def test_whoever_answers_right_measures_perfectly(copying, monkeypatch):
    task, episode = copying
    found = measures(task, monkeypatch, right(episode))
    np.testing.assert_allclose(found["bits_per_sequence"], 0.0, atol=1e-6)
    assert not found["wrong_bits"].any() and found["perfect"].all()


def test_a_wrong_bit_counts_in_its_own_sequence_alone(copying, monkeypatch):
    task, episode = copying
    step = jnp.argmax(episode.scored[:, 1])
    found = measures(task, monkeypatch, right(episode).at[step, 1, 4].multiply(-1.0))
    np.testing.assert_array_equal(found["wrong_bits"], [0, 1, 0])
    np.testing.assert_array_equal(found["perfect"], [True, False, True])
    np.testing.assert_allclose(found["bits_per_sequence"], [0.0, 40 / np.log(2), 0.0], atol=1e-4)


def test_whoever_knows_nothing_needs_a_bit_for_each(copying, monkeypatch):
    """In evaluation as in training, whose loss is in nats."""
    task, episode = copying
    blank = jnp.zeros_like(episode.targets)
    found = measures(task, monkeypatch, blank)
    np.testing.assert_allclose(found["bits_per_sequence"], BITS, rtol=1e-6)
    nats, weight, sums = task.loss(None, {"index": jnp.arange(ROWS)}, KEY)
    np.testing.assert_allclose(nats / weight, BITS * np.log(2), rtol=1e-6)
    np.testing.assert_allclose(sums["bits_per_sequence"] / weight, BITS, rtol=1e-6)
