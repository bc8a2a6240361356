"""Sampling of episodes. Pixel values identify the class or the index of an image."""

import numpy as np
import pytest

from tasks.few_shot.episodes import sample_episodes


def sample(classes, **changes):
    arguments = {"batch": 50, "ways": 3, "shots": 2, "queries": 1, "shuffle_labels": False}
    return sample_episodes(classes, np.random.default_rng(0), **arguments | changes)


@pytest.mark.parametrize("shuffle_labels", [False, True])
def test_each_class_has_the_configured_shots(shuffle_labels):
    classes = [np.full((3, 2, 2, 1), n, np.uint8) for n in range(9)]
    images, labels, targets = sample(classes, shuffle_labels=shuffle_labels)
    assert labels.shape == (50, 6) and targets.shape == (50, 1)
    assert images.shape == (50, 7, 2, 2, 1)
    np.testing.assert_array_equal(np.sort(labels, axis=1), [[0, 0, 1, 1, 2, 2]] * 50)
    correct = []
    for episode_labels, target, numbers in zip(labels, targets, images[:, :, 0, 0, 0], strict=True):
        assert len(set(numbers)) == 3
        assert numbers[-1] in numbers[:-1]
        every = np.append(episode_labels, target)
        correct.append(all(len(set(numbers[every == way])) == 1 for way in range(3)))
    assert np.mean(correct) < 0.3 if shuffle_labels else np.mean(correct) == 1


def numbered_classes():
    """Classes of 4 or 3 images, whose pixels are 10 x class + index."""
    numbers = [np.arange(10 * n, 10 * n + (4, 3)[n % 2], dtype=np.uint8) for n in range(12)]
    return [np.broadcast_to(x[:, None, None, None], (len(x), 2, 2, 3)) for x in numbers]


def test_images_of_an_episode_are_distinct():
    """The query image is distinct too; classes with too few images are not sampled."""
    images = sample(numbered_classes(), shots=3).images
    for numbers in images[:, :, 0, 0, 0].tolist():
        assert len(set(numbers)) == 10
        assert {number // 10 % 2 for number in numbers} == {0}


def test_queries_are_of_the_classes_of_the_support_set_and_not_in_it():
    images, labels, targets = sample(numbered_classes(), shots=2, queries=20)
    assert images.shape == (50, 26, 2, 2, 3)
    for numbers, episode_labels, episode_targets in zip(
        images[:, :, 0, 0, 0], labels, targets, strict=True
    ):
        support, queries = numbers[:6], numbers[6:]
        assert not set(support) & set(queries)
        class_of = {
            label: number // 10 for label, number in zip(episode_labels, support, strict=True)
        }
        assert [class_of[target] for target in episode_targets] == list(queries // 10)
    assert np.bincount(targets.ravel(), minlength=3).min() > 250  # of 1,000


def test_one_query_gives_the_episodes_of_the_first_version():
    """Recorded results were trained on the episodes of this generator."""
    images, labels, targets = sample(numbered_classes(), batch=1)
    rng = np.random.default_rng(0)
    chosen = rng.choice(12, 3, replace=False)
    np.testing.assert_array_equal(labels[0], rng.permutation([0, 0, 1, 1, 2, 2]))
    assert targets[0, 0] == rng.integers(3)
    orders = [iter(rng.permutation((4, 3)[n % 2])) for n in chosen]
    expected = [10 * chosen[way] + next(orders[way]) for way in (*labels[0], *targets[0])]
    np.testing.assert_array_equal(images[0, :, 0, 0, 0], expected)
