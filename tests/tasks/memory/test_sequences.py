"""Sequences of the five memory tasks, parsed and checked against the task definitions."""

import math

import jax
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tasks.memory.sequences import (
    SEQUENCE_TASKS,
    Copy,
    NGrams,
    PrioritySort,
    Recall,
    RepeatCopy,
    SequenceBatch,
    sample_batch,
    sample_sizes,
)
from tests.models.tiny import unoptimized_jit

SIZES = {
    "copy": {"length": (1, 5)},
    "repeat_copy": {"length": (1, 4), "repeats": (1, 3)},
    "recall": {"items": (2, 5)},
    "ngrams": {"length": (4, 30)},
    "sort": {"items": (5, 5), "top_k": (3, 3)},
}
INDICES = np.arange(3)
TASKS = {name: SEQUENCE_TASKS[name](**sizes) for name, sizes in SIZES.items()}
few_examples = settings(max_examples=15, deadline=None, derandomize=True)
seeds = st.integers(0, 10_000)


def make_sampler(task):
    """Jitted function from a seed and indices to a batch, its steps and reference metrics."""

    @unoptimized_jit
    def sample(seed, indices):
        batch, steps = sample_batch(task, jax.random.key(seed), indices)
        return batch, steps, task.reference_metrics(batch)

    return lambda seed, indices=INDICES: jax.device_get(sample(seed, indices))


SAMPLERS = {name: make_sampler(task) for name, task in TASKS.items()}


def sequences(name, seed):
    """Yield the inputs, targets and loss mask of each sequence, without padding."""
    batch, steps, _ = SAMPLERS[name](seed)
    for b in range(len(INDICES)):
        yield SequenceBatch(*(x[:steps, b] for x in batch))


@pytest.mark.parametrize("name", SEQUENCE_TASKS)
@few_examples
@given(seed=seeds)
def test_padding_is_empty_and_inputs_and_targets_do_not_overlap(name, seed):
    batch, steps, _ = SAMPLERS[name](seed)
    task = TASKS[name]
    assert 0 < steps <= task.max_steps == len(batch.loss_mask)
    assert not batch.loss_mask[steps:].any() and not batch.inputs[steps:].any()
    assert batch.inputs.shape[-1] == task.inputs
    assert batch.targets.shape[-1] == task.outputs
    if name != "ngrams":
        assert not np.any(batch.inputs.any(-1) & batch.loss_mask)
        assert not np.any(batch.targets.any(-1) & ~batch.loss_mask)


@pytest.mark.parametrize("name", SEQUENCE_TASKS)
def test_sequence_depends_only_on_the_key_and_its_index(name):
    batch, steps, _ = SAMPLERS[name](5)
    permuted, same_steps, _ = SAMPLERS[name](5, INDICES[[1, 2, 2]])
    assert steps == same_steps
    for x, y in zip(batch, permuted, strict=True):
        np.testing.assert_array_equal(x[:, [1, 2, 2]], y)
    assert np.any(batch.inputs[:, 0] != batch.inputs[:, 1])


@few_examples
@given(seeds)
def test_copy_targets_are_the_input_vectors(seed):
    for inputs, targets, loss_mask in sequences("copy", seed):
        length = loss_mask.sum()
        assert inputs[0, 8] == inputs[length + 1, 9] == 1 and inputs[:, 8:].sum() == 2
        np.testing.assert_array_equal(targets[loss_mask, :8], inputs[1 : length + 1, :8])
        assert not targets[:, 8].any() and len(inputs) == 2 * length + 2


@few_examples
@given(seeds)
def test_repeat_copy_targets_are_the_repeated_input_vectors(seed):
    for inputs, targets, loss_mask in sequences("repeat_copy", seed):
        length = int(np.flatnonzero(inputs[:, 7])[0]) - 1
        repeats = round(inputs[length + 1, 7] * math.sqrt(8.25) + 5.5)
        vectors = inputs[1 : length + 1, :6]
        np.testing.assert_array_equal(targets[loss_mask][:-1, :6], np.tile(vectors, (repeats, 1)))
        np.testing.assert_array_equal(np.flatnonzero(targets[:, 6]), [len(inputs) - 1])


def test_number_of_repeats_is_normalized():
    numbers = (np.arange(1, 11) - RepeatCopy.mean) / RepeatCopy.stddev
    assert numbers.mean() == pytest.approx(0) and numbers.var() == pytest.approx(1)


@few_examples
@given(seeds)
def test_recall_target_is_the_item_after_the_query(seed):
    for inputs, targets, loss_mask in sequences("recall", seed):
        starts = np.flatnonzero(inputs[:, 6])
        items = [inputs[i + 1 : i + 4, :6] for i in starts]
        first, last = np.flatnonzero(inputs[:, 7])
        query = inputs[first + 1 : last, :6]
        following = [items[i + 1] for i in range(len(items) - 1) if (items[i] == query).all()]
        assert any((targets[loss_mask] == item).all() for item in following)
        assert loss_mask.sum() == 3 == last - first - 1


def test_recall_queries_are_uniform_over_all_but_the_last_item():
    batch, *_ = make_sampler(Recall(items=(4, 4)))(0, np.arange(200))
    items = batch.inputs[[1, 5, 9], :, :6]
    query = batch.inputs[17, :, :6]
    counts = (items == query).all(-1).sum(1)
    assert (counts > 40).all()


@few_examples
@given(seeds)
def test_sort_targets_are_the_vectors_of_highest_priority(seed):
    for inputs, targets, loss_mask in sequences("sort", seed):
        priorities, delimiter = inputs[:5, 8], inputs[:, 9]
        np.testing.assert_array_equal(np.flatnonzero(delimiter), [5])
        order = np.argsort(-priorities)[:3]
        np.testing.assert_array_equal(targets[loss_mask], inputs[:5, :8][order])
        assert (np.abs(priorities) < 1).all()


@few_examples
@given(seeds)
def test_ngram_targets_are_the_next_inputs(seed):
    for inputs, targets, loss_mask in sequences("ngrams", seed):
        np.testing.assert_array_equal(inputs[1:], targets[:-1])
        assert inputs[0] == 0 and loss_mask.all()


def test_optimal_bits_equal_loops():
    batch, steps, references = SAMPLERS["ngrams"](3)
    for b in range(len(INDICES)):
        bits = [int(x) for x in batch.targets[:steps, b, 0]]
        cost, table = 0.0, {}
        for t, bit in enumerate(bits):
            counts = table.setdefault(tuple(bits[t - 5 : t]), [0.5, 0.5]) if t >= 5 else [1.0, 1.0]
            cost -= math.log2(counts[bit] / sum(counts))
            counts[bit] += 1
        assert references["optimal_bits"][b] == pytest.approx(cost, rel=1e-4)


def test_optimal_cost_of_ngrams_is_133_bits():
    """For 200 bits, 132.9 by simulation; fig. 13 of the paper shows 131 to 132."""
    *_, references = make_sampler(NGrams(length=(200, 200)))(0, np.arange(2000))
    bits = references["optimal_bits"]
    assert abs(bits.mean() - 132.9) < 4 * bits.std() / math.sqrt(len(bits)) + 0.3


def test_sizes_are_uniform_with_both_bounds_included():
    @unoptimized_jit
    def lengths(key):
        sample = lambda key: sample_sizes(key, {"length": (1, 5)})["length"]
        return jax.vmap(sample)(jax.random.split(key, 2000))

    counts = np.bincount(lengths(jax.random.key(0)), minlength=6)
    assert counts[0] == 0 and (np.abs(counts[1:] / 400 - 1) < 0.2).all()


@pytest.mark.parametrize(
    ("create", "message"),
    [
        (lambda: Copy(lengths=(1, 2)), "the sizes of Copy are length, not lengths"),
        (lambda: Copy(length=(3, 2)), "length must be .* with 0 < low <= high, not .3, 2"),
        (lambda: Copy(length=5), "length must be .low, high. with 0 < low <= high, not 5"),
        (lambda: PrioritySort(items=(4, 4), top_k=(2, 5)), "cannot return the top 5 of 4 items"),
        (lambda: Recall(items=(1, 3)), "needs at least 2 items, not 1"),
    ],
)
@pytest.mark.usefixtures("disable_type_checks")
def test_invalid_sizes_are_rejected(create, message):
    with pytest.raises(ValueError, match=message):
        create()
