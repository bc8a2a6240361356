"""The sequences of the memory tasks, read back as a person would read them."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tasks.memory.sequences import FAMILIES, Copy, NGrams, PrioritySort, Recall, RepeatCopy, draw
from training.errors import UserError

SIZES = {
    "copy": {"length": (1, 5)},
    "repeat_copy": {"length": (1, 4), "repeats": (1, 3)},
    "recall": {"items": (2, 5)},
    "ngrams": {"length": (4, 30)},
    "sort": {"items": (5, 5), "kept": (3, 3)},
}
ROWS = jnp.arange(3)
families = {name: FAMILIES[name](**sizes) for name, sizes in SIZES.items()}
drawers = {name: jax.jit(lambda key, rows, f=f: draw(f, key, rows)) for name, f in families.items()}
quick = settings(max_examples=15, deadline=None, derandomize=True)
seeds = st.integers(0, 10_000)


def sequences(name, seed):
    """Each of a batch, as long as it is."""
    episode, steps = drawers[name](jax.random.key(seed), ROWS)
    for b in range(len(ROWS)):
        yield tuple(np.asarray(x[: int(steps), b]) for x in episode)


@pytest.mark.parametrize("name", FAMILIES)
@quick
@given(seed=seeds)
def test_nothing_lies_outside_of_the_steps(name, seed):
    """Nor is an answer to be given while the task is being told."""
    episode, steps = drawers[name](jax.random.key(seed), ROWS)
    assert 0 < steps <= families[name].longest == len(episode.scored)
    assert not jnp.any(episode.scored[steps:]) and not jnp.any(episode.inputs[steps:])
    assert episode.inputs.shape[-1] == families[name].inputs
    assert episode.targets.shape[-1] == families[name].outputs
    if name != "ngrams":
        assert not jnp.any(jnp.any(episode.inputs != 0, -1) & episode.scored)
        assert not jnp.any(jnp.any(episode.targets != 0, -1) & ~episode.scored)


@pytest.mark.parametrize("name", FAMILIES)
def test_a_row_depends_on_the_key_and_its_number_alone(name):
    key = jax.random.key(5)
    whole, steps = drawers[name](key, ROWS)
    part, same = drawers[name](key, ROWS[1:])
    assert steps == same
    for x, y in zip(whole, part, strict=True):
        np.testing.assert_array_equal(x[:, 1:], y)
    assert np.any(whole.inputs[:, 0] != whole.inputs[:, 1])


@quick
@given(seeds)
def test_copy(seed):
    for inputs, targets, scored in sequences("copy", seed):
        length = scored.sum()
        assert inputs[0, 8] == inputs[length + 1, 9] == 1 and inputs[:, 8:].sum() == 2
        np.testing.assert_array_equal(targets[scored, :8], inputs[1 : length + 1, :8])
        assert not targets[:, 8].any() and len(inputs) == 2 * length + 2


@quick
@given(seeds)
def test_repeat_copy(seed):
    for inputs, targets, scored in sequences("repeat_copy", seed):
        length = int(np.flatnonzero(inputs[:, 7])[0]) - 1
        repeats = round(inputs[length + 1, 7] * math.sqrt(8.25) + 5.5)
        said = inputs[1 : length + 1, :6]
        np.testing.assert_array_equal(targets[scored][:-1, :6], np.tile(said, (repeats, 1)))
        np.testing.assert_array_equal(np.flatnonzero(targets[:, 6]), [len(inputs) - 1])


def test_the_number_of_repeats_has_mean_zero_and_variance_one():
    numbers = (np.arange(1, 11) - RepeatCopy.mean) / RepeatCopy.deviation
    assert numbers.mean() == pytest.approx(0) and numbers.var() == pytest.approx(1)


@quick
@given(seeds)
def test_recall(seed):
    for inputs, targets, scored in sequences("recall", seed):
        starts = np.flatnonzero(inputs[:, 6])
        items = [inputs[i + 1 : i + 4, :6] for i in starts]
        first, last = np.flatnonzero(inputs[:, 7])
        asked = inputs[first + 1 : last, :6]
        following = [items[i + 1] for i in range(len(items) - 1) if (items[i] == asked).all()]
        assert any((targets[scored] == item).all() for item in following)
        assert scored.sum() == 3 == last - first - 1


def test_recall_asks_for_every_item_that_has_a_next():
    family = Recall(items=(4, 4))
    episode, _ = draw(family, jax.random.key(0), jnp.arange(200))
    items = np.asarray(episode.inputs)[[1, 5, 9], :, :6]
    asked = np.asarray(episode.inputs)[17, :, :6]
    counts = (items == asked).all(-1).sum(1)
    assert (counts > 40).all()


@quick
@given(seeds)
def test_sort(seed):
    for inputs, targets, scored in sequences("sort", seed):
        priorities, flag = inputs[:5, 8], inputs[:, 9]
        np.testing.assert_array_equal(np.flatnonzero(flag), [5])
        order = np.argsort(-priorities)[:3]
        np.testing.assert_array_equal(targets[scored], inputs[:5, :8][order])
        assert (np.abs(priorities) < 1).all()


@quick
@given(seeds)
def test_a_bit_of_n_grams_is_the_next_input(seed):
    for inputs, targets, scored in sequences("ngrams", seed):
        np.testing.assert_array_equal(inputs[1:], targets[:-1])
        assert inputs[0] == 0 and scored.all()


def test_the_optimal_estimator_equals_a_loop():
    episode, steps = drawers["ngrams"](jax.random.key(3), ROWS)
    found = families["ngrams"].references(episode)["optimal_bits"]
    for b in range(len(ROWS)):
        bits = [int(x) for x in np.asarray(episode.targets)[: int(steps), b, 0]]
        cost, seen = 0.0, {}
        for t, bit in enumerate(bits):
            counts = seen.setdefault(tuple(bits[t - 5 : t]), [0.5, 0.5]) if t >= 5 else [1.0, 1.0]
            cost -= math.log2(counts[bit] / sum(counts))
            counts[bit] += 1
        assert found[b] == pytest.approx(cost, rel=1e-4)


def test_the_optimum_of_n_grams_is_133_bits():
    """Of 200 bits, the first five at one each: 132.9 by simulation; fig. 13 shows 131 to 132."""
    family = NGrams(length=(200, 200))
    episode, _ = jax.jit(lambda: draw(family, jax.random.key(0), jnp.arange(2000)))()
    bits = np.asarray(family.references(episode)["optimal_bits"])
    assert abs(bits.mean() - 132.9) < 4 * bits.std() / math.sqrt(len(bits)) + 0.3


def test_sizes_are_uniform_both_ends_included():
    keys = jax.random.split(jax.random.key(0), 2000)
    steps = jax.jit(jax.vmap(lambda key: draw(families["copy"], key, ROWS[:1])[1]))(keys)
    counts = np.bincount(np.asarray(steps) // 2 - 1, minlength=6)
    assert counts[0] == 0 and (np.abs(counts[1:] / 400 - 1) < 0.2).all()


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: Copy(lengths=(1, 2)), "The sizes of Copy are length, not lengths"),
        (lambda: Copy(length=(3, 2)), "length cannot be from 3 to 2"),
        (lambda: PrioritySort(items=(4, 4), kept=(2, 5)), "keep 5 of 4"),
        (lambda: Recall(items=(1, 3)), "at least 2 items"),
    ],
)
def test_wrong_sizes_are_sentences(make, said):
    with pytest.raises(UserError, match=said):
        make()
