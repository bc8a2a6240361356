"""Sentence pairs as padded batches of few shapes, for recurrent models and for decoding.

A pair is assigned to the smallest bucket that fits both sides. The token budget determines the
batch size of each bucket, so XLA compiles one program per bucket. The pairs of batch i depend only
on the seed and i, so a resumed run sees the batches of an uninterrupted run.
"""

import functools
import sys
import threading
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Int, Int32

from tasks.translation.data.tokenized import Lengths, Sentences, TokenizedPairs
from tasks.vocabulary import PAD
from training.errors import UserError

Batch = dict[str, Int32[np.ndarray, "B _"]]


class _Plan(NamedTuple):
    """Batches of one epoch: batch j is the pairs `order[begin : end]` in `bucket`, by `cuts[j]`."""

    order: Int[np.ndarray, " N"]
    cuts: Int[np.ndarray, "batches 3"]  # bucket, begin, end


class Buckets:
    """Sorts pairs into buckets and cuts them into batches.

    Args:
        pairs: tokenized pairs, none longer than the last bucket.
        buckets: ascending lengths, each one number for both sides or a pair (source, target).
        tokens: upper bound on the tokens of a batch on either side, padding included.
        batch_size_multiple: batch sizes are multiples of it, so that devices can share a batch. A
            bucket longer than `tokens / batch_size_multiple` exceeds the budget.

    Raises:
        ValueError: if a pair is longer than the last bucket.
    """

    def __init__(
        self,
        pairs: TokenizedPairs,
        buckets: Sequence[int | Lengths],
        tokens: int,
        batch_size_multiple: int = 8,
    ):
        self.pairs = pairs
        self.shapes = bucket_shapes(buckets)
        self.batch_sizes = [bucket_batch_size(s, tokens, batch_size_multiple) for s in self.shapes]
        source, target = pairs.source.lengths, pairs.target.lengths
        # The number of shorter buckets, because a pair that fits a bucket fits all longer ones. The
        # smallest type, because a corpus may have many millions of pairs.
        dtype = np.min_scalar_type(len(self.shapes))
        self.bucket_of = np.zeros(len(pairs), dtype)
        for longest_source, longest_target in self.shapes:
            self.bucket_of += (source > longest_source) | (target > longest_target)
        if (self.bucket_of == len(self.shapes)).any():
            raise ValueError("Some pairs are longer than the last bucket: use within or truncated.")

    def cut(self, order: Int[np.ndarray, " N"]) -> _Plan:
        """Cut the pairs, taken in the given order, into batches, bucket by bucket."""
        order = order[np.argsort(self.bucket_of[order], kind="stable")]
        edges = np.searchsorted(self.bucket_of[order], np.arange(len(self.shapes) + 1))
        cuts = [
            (bucket, begin, min(begin + size, edges[bucket + 1]))
            for bucket, size in enumerate(self.batch_sizes)
            for begin in range(edges[bucket], edges[bucket + 1], size)
        ]
        return _Plan(order, np.array(cuts, np.int64).reshape(-1, 3))

    def batch(self, plan: _Plan, j: int) -> tuple[Batch, Int[np.ndarray, " M"]]:
        """Return batch j of a plan and the indices of its pairs; further entries are all PAD."""
        bucket, begin, end = plan.cuts[j]
        indices = plan.order[begin:end]
        return {
            name: pad(side, indices, (self.batch_sizes[bucket], length))
            for name, side, length in zip(
                ("source", "target"), self.pairs.sides, self.shapes[bucket], strict=True
            )
        }, indices


class BucketedBatches:
    """Infinite sequence of training batches; `batches[i]` depends only on the seed and i.

    Every pair occurs exactly once in each epoch of `per_epoch` batches. The last batch of a bucket
    is completed with entries of PAD.
    """

    def __init__(
        self,
        pairs: TokenizedPairs,
        buckets: Sequence[int | Lengths],
        tokens: int,
        seed: int,
        batch_size_multiple: int = 8,
    ):
        self._buckets = Buckets(pairs, buckets, tokens, batch_size_multiple)
        self._seed = seed
        self._plan_of_epoch = functools.lru_cache(maxsize=1)(self._plan)
        self._lock = threading.Lock()
        self.per_epoch = len(self._plan_of_epoch(0).cuts)
        if not self.per_epoch:
            raise UserError(
                "No training pair is left: none has text on both sides and fits into "
                "max_training_length and batching.buckets: enlarge these, or correct the text."
            )

    def __len__(self) -> int:
        return sys.maxsize

    def __getitem__(self, i: int) -> Batch:
        epoch, j = divmod(i, self.per_epoch)
        with self._lock:
            plan = self._plan_of_epoch(epoch)
        return self._buckets.batch(plan, j)[0]

    def _plan(self, epoch: int) -> _Plan:
        rng = np.random.default_rng((self._seed, epoch))
        plan = self._buckets.cut(rng.permutation(len(self._buckets.pairs)))
        return plan._replace(cuts=rng.permutation(plan.cuts))


def evaluation_batches(
    pairs: TokenizedPairs,
    buckets: Sequence[int | Lengths],
    tokens: int,
    batch_size_multiple: int = 8,
) -> Iterator[tuple[Batch, Int[np.ndarray, " M"]]]:
    """Yield batches of all pairs, each pair once, in order of length.

    Yields:
        A batch and the indices of the pairs in its first M entries, so that
        `results[indices] = batch_results[:M]` restores the order. Further entries are all PAD.
    """
    bucketed = Buckets(pairs, buckets, tokens, batch_size_multiple)
    plan = bucketed.cut(np.lexsort((pairs.target.lengths, pairs.source.lengths)))
    for j in range(len(plan.cuts)):
        yield bucketed.batch(plan, j)


def pad(
    sentences: Sentences, indices: Int[np.ndarray, " M"], shape: tuple[int, int]
) -> Int32[np.ndarray, "B L"]:
    """Pad the chosen sentences to `shape` with PAD; entries beyond them are all PAD."""
    padded = np.full(shape, PAD, np.int32)
    real = np.arange(shape[1]) < sentences.lengths[indices, None]
    padded[: len(indices)][real] = sentences.tokens(indices)
    return padded


def bucket_batch_size(shape: Lengths, tokens: int, batch_size_multiple: int) -> int:
    """Compute the batch size of a bucket from the token budget."""
    multiples = tokens // max(shape) // batch_size_multiple
    return max(1, multiples) * batch_size_multiple


def bucket_shapes(buckets: Sequence[int | Lengths]) -> tuple[Lengths, ...]:
    """Convert buckets to (source, target) lengths.

    Raises:
        UserError: if the lengths do not ascend.
    """
    shapes = tuple((b, b) if isinstance(b, int) else (int(b[0]), int(b[1])) for b in buckets)
    steps = zip(((1, 1), *shapes), shapes, strict=False)
    if not shapes or any(a == b or a[0] > b[0] or a[1] > b[1] for a, b in steps):
        raise UserError(f"batching.buckets={tuple(buckets)} must be ascending lengths of 2 or more")
    return shapes
