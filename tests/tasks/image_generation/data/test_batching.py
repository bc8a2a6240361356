"""Tests of `tasks.image_generation.data.batching`."""

import numpy as np
import pytest

from tasks.image_generation.data.batching import RandomBatches, sequential_batches
from tasks.image_generation.data.sources import InMemoryImages
from training.errors import UserError
from training.prefetch import prefetch


def numbered_images(count):
    """Images whose pixels and labels are their indices."""
    pixels = np.arange(count, dtype=np.uint8)[:, None, None, None] * np.ones((1, 2, 2, 1), np.uint8)
    return InMemoryImages(pixels, np.arange(count), ("a",))


def test_epochs_are_permutations_and_do_not_depend_on_the_first_step():
    batches = RandomBatches(numbered_images(12), 4, seed=3)
    expected = [batches[n]["label"] for n in range(6)]
    for epoch in (expected[:3], expected[3:]):
        assert sorted(np.concatenate(epoch)) == list(range(12))
    assert not np.array_equal(expected[:3], expected[3:])
    other_seed = RandomBatches(numbered_images(12), 4, seed=4)
    assert not np.array_equal(expected[:3], [other_seed[n]["label"] for n in range(3)])
    for start in (0, 2, 4):
        iterator = prefetch(RandomBatches(numbered_images(12), 4, seed=3), start)
        for n in range(start, 6):
            batch = next(iterator)
            np.testing.assert_array_equal(batch["label"], expected[n])
            np.testing.assert_array_equal(batch["image"][:, 0, 0, 0], expected[n])
        iterator.close()


def test_too_few_images_for_a_batch_are_rejected():
    with pytest.raises(UserError, match="batch=4 exceeds the 3 training images"):
        RandomBatches(numbered_images(3), 4, 0)


def test_sequential_batches_repeat_images_from_the_first():
    batches = list(sequential_batches(numbered_images(5), 4, 7))
    assert [count for _, count in batches] == [4, 3]
    labels = np.concatenate([batch["label"] for batch, _ in batches])
    np.testing.assert_array_equal(labels, [0, 1, 2, 3, 4, 0, 1, 2])
