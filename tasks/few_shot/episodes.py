"""Episodes of few-shot classification, sampled from images by class."""

from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Int, UInt8

Classes = list[UInt8[np.ndarray, "_ P P C"]]  # the images of each class; ink is 255


class Episodes(NamedTuple):
    """Batch of episodes.

    Attributes:
        images: T = S + Q images of each episode, the support set and then the queries.
        labels: classes of the support set.
        targets: classes of the queries.
    """

    images: UInt8[np.ndarray, "B T P P C"]
    labels: Int[np.ndarray, "B S"]
    targets: Int[np.ndarray, "B Q"]


def with_shots(classes: Classes, shots: int) -> Classes:
    """Return the classes that have enough images for the support set and the query."""
    return [images for images in classes if len(images) > shots]


def sample_episodes(
    classes: Classes,
    rng: Any,
    *,
    batch: int,
    ways: int,
    shots: int,
    queries: int,
    shuffle_labels: bool,
) -> Episodes:
    """Sample episodes in random order; no query is in the support set.

    Queries are distinct, unless the queries of a class exceed its images outside the support set.

    Args:
        classes: classes to sample from; those with too few images are excluded.
        rng: NumPy generator.
        batch: B, number of episodes.
        ways: N, classes per episode.
        shots: K, labeled images per class.
        queries: Q, images per episode to classify, whose classes are sampled independently.
        shuffle_labels: permute the support labels, so that they carry no information (a control).
    """
    images, labels, targets, eligible = [], [], [], with_shots(classes, shots)
    for _ in range(batch):
        chosen = rng.choice(len(eligible), ways, replace=False)
        support = rng.permutation(np.repeat(np.arange(ways), shots))
        query_labels = rng.integers(ways, size=queries)
        used = np.zeros(ways, int)
        shuffled = [rng.permutation(eligible[n]) for n in chosen]
        for way in (*support, *query_labels):
            count = used[way]
            unused = len(shuffled[way]) - shots  # images outside the support set
            position = count if count < shots else shots + (count - shots) % unused
            images.append(shuffled[way][position])
            used[way] += 1
        labels.append(rng.permutation(support) if shuffle_labels else support)
        targets.append(query_labels)
    shape = (batch, ways * shots + queries, *images[0].shape)
    return Episodes(
        np.array(images).reshape(shape), np.array(labels, np.int32), np.array(targets, np.int32)
    )
