"""Fixed random samples of datasets, in place of their first examples.

The order of a dataset often has a meaning: files are ordered by class, documents by date. The
first N examples are therefore not a random sample of the dataset.
"""

import random
from collections.abc import Iterable
from typing import TypeVar

import numpy as np
from jaxtyping import Int

T = TypeVar("T")

_SEED = 2018


def fixed_permutation(count: int) -> Int[np.ndarray, " N"]:
    """Return a permutation of `count` indices that is the same at every call."""
    return np.random.default_rng(_SEED).permutation(count)


def fixed_sample(count: int, size: int) -> Int[np.ndarray, " M"]:
    """Return `size` of `count` indices in ascending order, or all of them if there are fewer.

    The sample is uniform, without replacement, and the same at every call.
    """
    return np.sort(fixed_permutation(count)[:size])


def fixed_reservoir(items: Iterable[T], size: int) -> list[T]:
    """Return `size` of the items in one pass, in no particular order, or all if there are fewer.

    The sample is uniform, without replacement, and the same at every call for the same number of
    items. Source: Vitter 1985, "Random Sampling with a Reservoir", algorithm R.
    """
    rng = random.Random(_SEED)
    sample: list[T] = []
    for count, item in enumerate(items):
        if count < size:
            sample.append(item)
        elif (slot := int(rng.random() * (count + 1))) < size:
            sample[slot] = item
    return sample
