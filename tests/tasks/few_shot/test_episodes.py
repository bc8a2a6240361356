"""Sampling of episodes. Pixel values identify the class or the index of an image."""

import numpy as np
import pytest

from tasks.few_shot.episodes import sample_episodes


@pytest.mark.parametrize("shuffle_labels", [False, True])
def test_each_class_has_the_configured_shots(shuffle_labels):
    classes = [np.full((3, 2, 2), n, np.uint8) for n in range(9)]
    rng = np.random.default_rng(0)
    images, labels = sample_episodes(
        classes, rng, batch=50, ways=3, shots=2, shuffle_labels=shuffle_labels
    )
    assert labels.shape == (50, 7)
    assert images.shape == (50, 7, 2, 2)
    np.testing.assert_array_equal(np.sort(labels[:, :-1], axis=1), [[0, 0, 1, 1, 2, 2]] * 50)
    correct = []
    for episode_labels, numbers in zip(labels, images[:, :, 0, 0], strict=True):
        assert len(set(numbers)) == 3
        assert numbers[-1] in numbers[:-1]
        correct.append(all(len(set(numbers[episode_labels == way])) == 1 for way in range(3)))
    assert np.mean(correct) < 0.3 if shuffle_labels else np.mean(correct) == 1


def test_images_of_an_episode_are_distinct():
    """The query image is distinct too; classes with too few images are not sampled."""
    classes = []
    for n, size in enumerate([4, 3] * 6):
        numbers = np.arange(10 * n, 10 * n + size, dtype=np.uint8)
        classes.append(np.broadcast_to(numbers[:, None, None], (size, 2, 2)))
    rng = np.random.default_rng(0)
    images, _ = sample_episodes(classes, rng, batch=50, ways=3, shots=3, shuffle_labels=False)
    for numbers in images[:, :, 0, 0].tolist():
        assert len(set(numbers)) == 10
        assert {number // 10 % 2 for number in numbers} == {0}
