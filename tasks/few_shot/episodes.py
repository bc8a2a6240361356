"""Episodes of few-shot classification, sampled from images by class."""

from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Int, UInt8

from tasks.few_shot.datasets import Classes


class Episodes(NamedTuple):
    """Batch of episodes; the last image of an episode is the query, the others the support set."""

    images: UInt8[np.ndarray, "B T P P"]
    labels: Int[np.ndarray, "B T"]


def with_shots(classes: Classes, shots: int) -> Classes:
    """Return the classes that have enough images for the support set and the query."""
    return [images for images in classes if len(images) > shots]


def sample_episodes(
    classes: Classes, rng: Any, *, batch: int, ways: int, shots: int, shuffle_labels: bool
) -> Episodes:
    """Sample episodes with distinct images, in random order.

    Args:
        classes: classes to sample from; those with too few images are excluded.
        rng: NumPy generator.
        batch: B, number of episodes.
        ways: N, classes per episode.
        shots: K, labeled images per class.
        shuffle_labels: permute the support labels, so that they carry no information (a control).
    """
    images, labels, eligible = [], [], with_shots(classes, shots)
    for _ in range(batch):
        chosen = rng.choice(len(eligible), ways, replace=False)
        support = rng.permutation(np.repeat(np.arange(ways), shots))
        query = rng.integers(ways)
        unused = [iter(rng.permutation(eligible[n])) for n in chosen]
        images.append([next(unused[way]) for way in (*support, query)])
        labels.append([*(rng.permutation(support) if shuffle_labels else support), query])
    return Episodes(np.array(images), np.array(labels, np.int32))
