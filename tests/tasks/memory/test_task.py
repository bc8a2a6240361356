"""Cross-entropy and metrics of the memory tasks against loops and hand-computed values."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import tasks
from configs import ntm_copy, ntm_ngrams
from tasks.memory.sequences import SequenceBatch, sample_batch
from tasks.memory.task import cross_entropy
from tests.commands import fast_compilation
from tests.models.tiny import unoptimized_jit
from training.errors import UserError

KEY, BATCH = jax.random.key(0), {"index": jnp.asarray([0, 1, 2])}
TARGET_BITS = 2 * 9  # two vectors of nine channels


def test_cross_entropy_equals_loops():
    rng = np.random.default_rng(0)
    logits, targets = 3.0 * rng.normal(size=(5, 3, 4)), rng.integers(0, 2, (5, 3, 4))
    loss_mask = rng.random((5, 3)) < 0.6
    expected = np.zeros((5, 3))
    for step in np.argwhere(loss_mask):
        for logit, bit in zip(logits[*step], targets[*step], strict=True):
            one = 1.0 / (1.0 + np.exp(-logit))
            expected[*step] -= np.log(one if bit else 1.0 - one)
    batch = SequenceBatch(np.zeros((5, 3, 1)), np.float32(targets), loss_mask)
    np.testing.assert_allclose(unoptimized_jit(cross_entropy)(logits, batch), expected, rtol=1e-5)


@pytest.fixture(scope="module")
def task():
    """Copy task with two vectors; its model returns the parameters as logits."""
    config = ntm_copy.get_config("smoke")
    config.data.sizes = {"length": (2, 2)}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("tasks.memory.task.nnx.merge", lambda graphdef, params: lambda *_: params)
        yield tasks.build(config, "")


@pytest.fixture(scope="module")
def batch(task):
    """Sequences on which the task is evaluated with `KEY`."""
    sample = unoptimized_jit(
        lambda key: sample_batch(task.tasks["train"], jax.random.split(key)[0], BATCH["index"])
    )
    return jax.device_get(sample(KEY)[0])


@pytest.fixture(scope="module")
def metrics(task):
    """Jitted function from logits to metrics."""
    run = unoptimized_jit(lambda logits: task._metrics(logits, KEY, BATCH, task.tasks["train"]))
    return lambda logits: jax.device_get(run(logits))


def test_test_sequences_do_not_depend_on_the_batch_size():
    results = []
    for batch in (4, 8):
        config = ntm_copy.get_config("smoke")
        config.batch, config.evaluation.sequences = batch, 20
        config.data.sizes = {"length": (1, 3)}
        task = tasks.build(config, "")
        with fast_compilation():
            results.append(task.evaluate(task.init(KEY), "dev"))
    assert results[0] == results[1]


def test_excess_bits_of_constant_predictions(monkeypatch):
    """Predictions of one half cost one bit each, whatever the sequence."""
    monkeypatch.setattr("tasks.memory.task.nnx.merge", lambda graphdef, params: lambda *_: params)
    task = tasks.build(ntm_ngrams.get_config("smoke"), "")
    run = unoptimized_jit(lambda logits: task._metrics(logits, KEY, BATCH, task.tasks["train"]))
    metrics = jax.device_get(run(np.zeros((8, len(BATCH["index"]), 1))))
    np.testing.assert_allclose(metrics["bits_per_sequence"], 8.0, rtol=1e-6)
    np.testing.assert_allclose(metrics["excess_bits"], 8.0 - metrics["optimal_bits"], rtol=1e-5)


def correct_logits(batch):
    """Confident correct logits where there is a target, and wrong ones elsewhere."""
    correct = np.where(batch.targets > 0.5, 40.0, -40.0)
    return np.where(batch.loss_mask[..., None], correct, 40.0)


def test_correct_outputs_have_perfect_metrics(batch, metrics):
    actual = metrics(correct_logits(batch))
    np.testing.assert_allclose(actual["bits_per_sequence"], 0.0, atol=1e-6)
    assert not actual["bit_errors"].any() and actual["exact_match"].all()


def test_bit_error_counts_only_in_its_sequence(batch, metrics):
    logits = correct_logits(batch)
    logits[batch.loss_mask[:, 1].argmax(), 1, 4] *= -1
    actual = metrics(logits)
    np.testing.assert_array_equal(actual["bit_errors"], [0, 1, 0])
    np.testing.assert_array_equal(actual["exact_match"], [True, False, True])
    np.testing.assert_allclose(actual["bits_per_sequence"], [0.0, 40 / np.log(2), 0.0], atol=1e-4)


def test_uniform_predictions_cost_one_bit_per_target(task, batch, metrics):
    """The evaluation metric is in bits, the training loss in nats."""
    logits = np.zeros_like(batch.targets)
    np.testing.assert_allclose(metrics(logits)["bits_per_sequence"], TARGET_BITS, rtol=1e-6)
    nats, weight, sums = unoptimized_jit(lambda logits: task.loss(logits, BATCH, KEY))(logits)
    np.testing.assert_allclose(nats / weight, TARGET_BITS * np.log(2), rtol=1e-6)
    np.testing.assert_allclose(sums["bits_per_sequence"] / weight, TARGET_BITS, rtol=1e-6)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"evaluation.splits.test.length": 5}, "'evaluation.splits.test': length must be"),
        ({"evaluation.splits.train": {}}, "cannot have a split named 'train'"),
        ({"model.heads": 0, "model.foo": 1}, "config section 'model': .* argument 'foo'"),
        ({"model.heads": 0, "model.controller": "lsmt"}, "needs the controller 'lstm'"),
    ],
)
@pytest.mark.usefixtures("disable_type_checks")
def test_invalid_config_is_rejected(changes, message):
    config = ntm_copy.get_config("smoke")
    with config.unlocked(), config.ignore_type():
        config.update_from_flattened_dict(changes)
    with pytest.raises(UserError, match=message):
        tasks.build(config, "")
