"""Fixed random samples."""

import numpy as np

from tasks.subsets import fixed_reservoir


def test_reservoir_is_a_uniform_sample_in_one_pass():
    sample = fixed_reservoir(iter(range(100_000)), 1000)
    assert len(set(sample)) == 1000
    assert sample == fixed_reservoir(range(100_000), 1000)
    # Standard error of a bin: 9.5 items.
    counts, _ = np.histogram(sample, bins=10, range=(0, 100_000))
    assert np.all(np.abs(counts - 100) < 40)


def test_reservoir_returns_all_items_if_there_are_fewer():
    assert fixed_reservoir("abc", 4) == ["a", "b", "c"]
    assert fixed_reservoir("abc", 3) == ["a", "b", "c"]
    assert fixed_reservoir("", 3) == []
