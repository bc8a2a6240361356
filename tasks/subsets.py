"""Fixed random samples of datasets, in place of their first examples.

The order of a dataset often has a meaning: files are ordered by class, documents by date. The
first N examples are therefore not a random sample of the dataset.
"""

import numpy as np
from jaxtyping import Int

_SEED = 2018


def fixed_permutation(count: int) -> Int[np.ndarray, " N"]:
    """Return a permutation of `count` indices that is the same at every call."""
    return np.random.default_rng(_SEED).permutation(count)


def fixed_sample(count: int, size: int) -> Int[np.ndarray, " M"]:
    """Return `size` of `count` indices in ascending order, or all of them if there are fewer.

    The sample is uniform, without replacement, and the same at every call.
    """
    return np.sort(fixed_permutation(count)[:size])
