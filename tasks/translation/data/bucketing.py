"""Sentence pairs as padded batches of few shapes.

A pair goes to the smallest bucket that holds both of its sides. A batch has as many rows of one
bucket as the token budget allows, so XLA compiles one program per bucket. Which pairs make batch
i follows from the seed and i alone: a run that starts at any step sees the batches that an
uninterrupted run would see, without any state to save.
"""

import dataclasses
import functools
import hashlib
import os
import sys
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from jaxtyping import Int, Int32, Integer

from tasks.translation.data.pairs import Pairs
from tasks.translation.data.vocabulary import EOS, PAD, Vocabulary
from training.errors import UserError
from training.files import replacing

Batch = dict[str, Int32[np.ndarray, "B _"]]
Bucket = tuple[int, int]  # longest source and longest target, EOS included


class Side(NamedTuple):
    """The sentences of one language: `ids[start : start + length]` each.

    A length may be less than what is stored (truncation); EOS is then put at the new end.
    """

    ids: Integer[np.ndarray, " total"]
    starts: Int[np.ndarray, " N"]
    lengths: Int[np.ndarray, " N"]  # EOS included

    def padded(
        self, rows: Int[np.ndarray, " R"], shape: tuple[int, int]
    ) -> Int32[np.ndarray, "B L"]:
        """The chosen sentences, padded to `shape` with PAD; rows beyond them are all PAD."""
        padded = np.full(shape, PAD, np.int32)
        lengths = self.lengths[rows]
        inside = np.arange(shape[1]) < lengths[:, None]
        where = self.starts[rows, None] + np.arange(shape[1])
        padded[: len(rows)][inside] = self.ids[where[inside]]
        padded[np.arange(len(rows)), lengths - 1] = EOS
        return padded


@dataclasses.dataclass(frozen=True)
class TokenisedPairs:
    """Pairs of a split as piece numbers, each side ending in EOS."""

    source: Side
    target: Side

    @property
    def sides(self) -> tuple[Side, Side]:
        return self.source, self.target

    def __len__(self) -> int:
        return len(self.source.lengths)

    def within(self, limit: Bucket) -> tuple["TokenisedPairs", int]:
        """Without pairs that have a longer or an empty side, and how many those were."""
        keep = np.ones(len(self), bool)
        for side, longest in zip(self.sides, limit, strict=True):
            keep &= (side.lengths > 1) & (side.lengths <= longest)
        sides = (Side(side.ids, side.starts[keep], side.lengths[keep]) for side in self.sides)
        return TokenisedPairs(*sides), int((~keep).sum())

    def truncated(self, limit: Bucket) -> tuple["TokenisedPairs", int]:
        """With longer sides cut off at the limit, and how many pairs that changed."""
        cut = np.zeros(len(self), bool)
        sides = []
        for side, longest in zip(self.sides, limit, strict=True):
            cut |= side.lengths > longest
            sides.append(side._replace(lengths=np.minimum(side.lengths, longest)))
        return TokenisedPairs(*sides), int(cut.sum())


def tokenise(
    pairs: Pairs, vocabulary: Vocabulary, cache: str | os.PathLike | None = None
) -> TokenisedPairs:
    """Encodes every pair once.

    Args:
        pairs: what to encode.
        vocabulary: by which pieces.
        cache: folder in which the result is kept for the next start, memory-mapped, in a file named
            after a digest of the pairs and the vocabulary. None keeps it in memory.
    """
    if cache is None:
        return _index(_encode(pairs, vocabulary))
    digest = hashlib.blake2b(digest_size=16)
    digest.update(f"{len(pairs)} {pairs.fingerprint} {vocabulary.fingerprint}".encode())
    path = Path(cache) / f"{digest.hexdigest()}.npy"
    try:
        return _index(np.load(path, mmap_mode="r"))
    except (OSError, ValueError, EOFError):  # not there, or damaged
        with replacing(path) as file:
            np.save(file, _encode(pairs, vocabulary))
    return _index(np.load(path, mmap_mode="r"))


def _encode(pairs: Pairs, vocabulary: Vocabulary) -> Integer[np.ndarray, " total"]:
    """Source 0, EOS, target 0, EOS, source 1, ... in one array; no text encodes to EOS itself."""
    dtype = np.uint16 if len(vocabulary) <= 2**16 else np.int32
    chunks = [np.empty(0, dtype)]
    for chunk in pairs.chunks():
        encoded = vocabulary.encode([sentence for pair in chunk for sentence in pair])
        chunks.append(np.fromiter((i for ids in encoded for i in (*ids, EOS)), dtype))
    return np.concatenate(chunks)


def _index(ids: Integer[np.ndarray, " total"]) -> TokenisedPairs:
    """Finds the sentences in what `_encode` made."""
    ends = np.flatnonzero(ids == EOS) + 1
    starts = np.concatenate([np.zeros(1, ends.dtype), ends[:-1]])[: len(ends)]
    lengths = (ends - starts).astype(np.int32)
    return TokenisedPairs(*(Side(ids, starts[i::2], lengths[i::2]) for i in (0, 1)))


class _Plan(NamedTuple):
    """Batches of one pass: batch j is pairs `order[begin : end]` in `bucket`, for row j of cuts."""

    order: Int[np.ndarray, " N"]
    cuts: Int[np.ndarray, "batches 3"]  # bucket, begin, end


class Buckets:
    """Sorts pairs into buckets and cuts them into batches.

    Args:
        pairs: what to batch; none longer than the last bucket.
        buckets: ascending lengths, each one for both sides or a pair (source, target).
        tokens: most padded tokens of a batch on either side.
        rows_multiple: batches have a multiple of this many rows (devices share them out), so a
            bucket longer than `tokens / rows_multiple` exceeds the budget.
    """

    def __init__(
        self,
        pairs: TokenisedPairs,
        buckets: Sequence[int | Bucket],
        tokens: int,
        rows_multiple: int = 8,
    ):
        self.pairs = pairs
        self.shapes = bucket_shapes(buckets)
        self.rows = [rows_of(shape, tokens, rows_multiple) for shape in self.shapes]
        fits = np.stack(
            [(pairs.source.lengths <= s) & (pairs.target.lengths <= t) for s, t in self.shapes]
        )
        if not fits[-1].all():
            raise ValueError("pairs longer than the last bucket: use within() or truncated()")
        self.bucket_of = fits.argmax(axis=0)

    def cut(self, order: Int[np.ndarray, " N"]) -> _Plan:
        """Cuts the pairs, taken in the given order, into batches, bucket after bucket."""
        order = order[np.argsort(self.bucket_of[order], kind="stable")]
        edges = np.searchsorted(self.bucket_of[order], np.arange(len(self.shapes) + 1))
        cuts = [
            (bucket, begin, min(begin + rows, edges[bucket + 1]))
            for bucket, rows in enumerate(self.rows)
            for begin in range(edges[bucket], edges[bucket + 1], rows)
        ]
        return _Plan(order, np.array(cuts, np.int64).reshape(-1, 3))

    def batch(self, plan: _Plan, j: int) -> tuple[Batch, Int[np.ndarray, " R"]]:
        """Batch j of a plan, and which pairs its rows are (rows beyond them are all PAD)."""
        bucket, begin, end = plan.cuts[j]
        chosen = plan.order[begin:end]
        return {
            name: side.padded(chosen, (self.rows[bucket], length))
            for name, side, length in zip(
                ("source", "target"), self.pairs.sides, self.shapes[bucket], strict=True
            )
        }, chosen


class BucketedBatches:
    """An endless sequence of training batches; `batches[i]` depends on (seed, i) alone.

    Every pair occurs exactly once in each epoch of `per_epoch` batches; the last batch of a
    bucket is filled up with rows of PAD.
    """

    def __init__(
        self,
        pairs: TokenisedPairs,
        buckets: Sequence[int | Bucket],
        tokens: int,
        seed: int,
        rows_multiple: int = 8,
    ):
        self._buckets = Buckets(pairs, buckets, tokens, rows_multiple)
        self._seed = seed
        self._plan_of_epoch = functools.lru_cache(maxsize=1)(self._plan)
        self._lock = threading.Lock()
        self.per_epoch = len(self._plan_of_epoch(0).cuts)
        if not self.per_epoch:
            raise UserError("no pair to train on is left within batching.buckets: enlarge them")

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
    pairs: TokenisedPairs,
    buckets: Sequence[int | Bucket],
    tokens: int,
    rows_multiple: int = 8,
) -> Iterator[tuple[Batch, Int[np.ndarray, " R"]]]:
    """One pass, by length, in the shapes of training.

    Yields:
        A batch, and the indices of the pairs in its first rows: `outputs[indices] = found[:R]` puts
        what was found for them back in order. Further rows are all PAD.
    """
    bucketed = Buckets(pairs, buckets, tokens, rows_multiple)
    plan = bucketed.cut(np.lexsort((pairs.target.lengths, pairs.source.lengths)))
    for j in range(len(plan.cuts)):
        yield bucketed.batch(plan, j)


def rows_of(shape: Bucket, tokens: int, rows_multiple: int) -> int:
    """How many rows the batches of a bucket have."""
    return max(rows_multiple, tokens // max(shape) // rows_multiple * rows_multiple)


def bucket_shapes(buckets: Sequence[int | Bucket]) -> tuple[Bucket, ...]:
    """Buckets as (source, target) lengths.

    Raises:
        UserError: they do not ascend.
    """
    shapes = tuple((b, b) if isinstance(b, int) else (int(b[0]), int(b[1])) for b in buckets)
    steps = zip(((1, 1), *shapes), shapes, strict=False)
    if not shapes or any(a == b or a[0] > b[0] or a[1] > b[1] for a, b in steps):
        raise UserError(f"batching.buckets={tuple(buckets)} must be ascending lengths of 2 or more")
    return shapes
