"""Sentence pairs as token ids in flat arrays, encoded once and cached on disk."""

import dataclasses
import itertools
import os
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
from jaxtyping import Int, Integer

from tasks.files import digest
from tasks.translation.data.pairs import Pairs
from tasks.translation.data.vocabulary import Vocabulary
from tasks.vocabulary import EOS
from training.files import atomic_write, suppress_read_only, write_array, write_chunks

Lengths = tuple[int, int]  # of a source and a target, EOS included


class Sentences(NamedTuple):
    """Sentences of one language: sentence i is `ids[starts[i] : starts[i] + lengths[i]]`.

    A length below the stored one means truncation: the last token is then read as EOS.
    """

    ids: Integer[np.ndarray, " total"]
    starts: Int[np.ndarray, " N"]
    lengths: Int[np.ndarray, " N"]  # EOS included

    def tokens(self, indices: Int[np.ndarray, " M"]) -> Integer[np.ndarray, " tokens"]:
        """Concatenate the chosen sentences, each ending in EOS."""
        lengths = self.lengths[indices]
        ends = np.cumsum(lengths)
        within = np.arange(lengths.sum()) - np.repeat(ends - lengths, lengths)
        tokens = self.ids[np.repeat(self.starts[indices], lengths) + within]
        tokens[ends - 1] = EOS
        return tokens


@dataclasses.dataclass(frozen=True)
class TokenizedPairs:
    """Tokenized sentence pairs of a split.

    Attributes:
        source: source sentences.
        target: target sentences, one per source sentence.
        cache: file that holds the token ids, beside which derived plans may be stored; `None` if
            the ids are in memory only.
    """

    source: Sentences
    target: Sentences
    cache: Path | None = None

    @property
    def sides(self) -> tuple[Sentences, Sentences]:
        return self.source, self.target

    def __len__(self) -> int:
        return len(self.source.lengths)

    def empty(self) -> Int[np.ndarray, " M"]:
        """Return the indices of the pairs with an empty side."""
        return np.flatnonzero((self.source.lengths <= 1) | (self.target.lengths <= 1))

    def select(self, indices: Int[np.ndarray, " M"]) -> "TokenizedPairs":
        """Return some of the pairs, without a `cache`."""
        source, target = (
            Sentences(side.ids, side.starts[indices], side.lengths[indices]) for side in self.sides
        )
        return TokenizedPairs(source, target)

    def within(self, limit: Lengths) -> tuple["TokenizedPairs", int]:
        """Drop pairs with an empty or too long side; return the others and the number dropped."""
        keep = np.ones(len(self), bool)
        for side, longest in zip(self.sides, limit, strict=True):
            keep &= (side.lengths > 1) & (side.lengths <= longest)
        kept = self.select(np.flatnonzero(keep))
        return dataclasses.replace(kept, cache=self.cache), int((~keep).sum())

    def truncated(self, limit: Lengths) -> tuple["TokenizedPairs", int]:
        """Truncate sentences over the limit; return the pairs and how many were changed."""
        cut = np.zeros(len(self), bool)
        for side, longest in zip(self.sides, limit, strict=True):
            cut |= side.lengths > longest
        source, target = (
            side._replace(lengths=np.minimum(side.lengths, longest))
            for side, longest in zip(self.sides, limit, strict=True)
        )
        return TokenizedPairs(source, target, self.cache), int(cut.sum())


def tokenize(
    pairs: Pairs, vocabulary: Vocabulary, cache: str | os.PathLike | None = None
) -> TokenizedPairs:
    """Encode every pair.

    Args:
        pairs: sentence pairs.
        vocabulary: encodes both sides.
        cache: directory of two files, the token ids, which are memory-mapped, and the lengths of
            the sentences. Their names contain a digest of the pairs and the vocabulary. If the
            directory is `None` or read-only, the tokens are kept in memory.
    """
    if cache is None:
        return _encode_in_memory(pairs, vocabulary)
    name = digest([f"{len(pairs)} {pairs.fingerprint} {vocabulary.fingerprint}".encode()])
    path = Path(cache) / f"{name}.npy"
    try:
        return _load(path, len(pairs))
    except (OSError, ValueError, EOFError):  # missing or damaged
        pass
    with suppress_read_only():
        _encode_to_file(pairs, vocabulary, path)
    try:
        return _load(path, len(pairs))
    except FileNotFoundError:  # read-only
        return _encode_in_memory(pairs, vocabulary)


def _encode(pairs: Pairs, vocabulary: Vocabulary) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Encode pairs as source 0, EOS, target 0, EOS, source 1, ...; no text encodes to EOS.

    Yields:
        The concatenated ids of consecutive sentences, and the lengths of these sentences.
    """
    dtype = _dtype(vocabulary)
    for chunk in pairs.chunks():
        sources, targets = zip(*chunk, strict=True)
        sides = vocabulary.source.encode(sources), vocabulary.target.encode(targets)
        encoded = list(itertools.chain.from_iterable(zip(*sides, strict=True)))
        for ids in encoded:
            ids.append(EOS)
        lengths = np.fromiter(map(len, encoded), np.int32, len(encoded))
        yield np.fromiter(itertools.chain.from_iterable(encoded), dtype, lengths.sum()), lengths


def _dtype(vocabulary: Vocabulary) -> type[np.integer]:
    return np.uint16 if len(vocabulary) <= 2**16 else np.int32


def _encode_in_memory(pairs: Pairs, vocabulary: Vocabulary) -> TokenizedPairs:
    chunks = list(_encode(pairs, vocabulary))
    ids = [np.empty(0, _dtype(vocabulary)), *(ids for ids, _ in chunks)]
    lengths = [np.empty(0, np.int32), *(lengths for _, lengths in chunks)]
    return _index(np.concatenate(ids), np.concatenate(lengths))


def _encode_to_file(pairs: Pairs, vocabulary: Vocabulary, path: Path) -> None:
    """Write the ids chunk by chunk, and then the lengths."""
    lengths = [np.empty(0, np.int32)]

    def ids() -> Iterator[np.ndarray]:
        for chunk_ids, chunk_lengths in _encode(pairs, vocabulary):
            lengths.append(chunk_lengths)
            yield chunk_ids

    with atomic_write(path) as file:
        write_chunks(file, ids(), _dtype(vocabulary))
    with atomic_write(_lengths_file(path)) as file:
        write_array(file, np.concatenate(lengths))


def _lengths_file(path: Path) -> Path:
    return path.with_name(f"{path.stem}.lengths.npy")


def _load(path: Path, count: int) -> TokenizedPairs:
    """Load the files of `count` pairs; raises OSError, ValueError or EOFError if it cannot."""
    lengths = np.load(_lengths_file(path))
    ids = np.load(path, mmap_mode="r")
    if len(lengths) != 2 * count or lengths.sum(dtype=np.int64) != len(ids):
        raise ValueError("the files belong to different pairs")
    return _index(ids, lengths, path)


def _index(
    ids: Integer[np.ndarray, " total"], lengths: Int[np.ndarray, " M"], cache: Path | None = None
) -> TokenizedPairs:
    """Locate the sentences in the output of `_encode`."""
    starts = np.cumsum(lengths, dtype=np.int64) - lengths
    source, target = (Sentences(ids, starts[i::2], lengths[i::2]) for i in (0, 1))
    return TokenizedPairs(source, target, cache)
