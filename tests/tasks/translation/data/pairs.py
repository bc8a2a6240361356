"""Tokenized pairs with known contents."""

import numpy as np

from tasks.translation.data.tokenized import Sentences, TokenizedPairs
from tasks.vocabulary import EOS


def make_pairs(lengths, first=4):
    """Pairs of the given (source, target) lengths; pair i has only tokens `first + i` and EOS."""
    sides = []
    for side in (0, 1):
        rows = [[first + i] * (pair[side] - 1) + [EOS] for i, pair in enumerate(lengths)]
        sizes = np.array([len(row) for row in rows], int)
        ids = np.array([token for row in rows for token in row], np.int32)
        sides.append(Sentences(ids, np.cumsum(sizes) - sizes, sizes))
    return TokenizedPairs(*sides)
