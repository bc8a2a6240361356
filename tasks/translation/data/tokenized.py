"""Sentence pairs as token ids in flat arrays, encoded once and cached on disk."""

import dataclasses
import hashlib
import os
from pathlib import Path
from typing import NamedTuple

import numpy as np
from jaxtyping import Int, Integer

from tasks.translation.data.pairs import Pairs
from tasks.translation.data.vocabulary import Vocabulary
from tasks.vocabulary import EOS
from training.files import atomic_write, suppress_read_only, write_array

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

    def within(self, limit: Lengths) -> tuple["TokenizedPairs", int]:
        """Drop pairs with an empty or too long side; return the others and the number dropped."""
        keep = np.ones(len(self), bool)
        for side, longest in zip(self.sides, limit, strict=True):
            keep &= (side.lengths > 1) & (side.lengths <= longest)
        source, target = (
            Sentences(side.ids, side.starts[keep], side.lengths[keep]) for side in self.sides
        )
        return TokenizedPairs(source, target, self.cache), int((~keep).sum())

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
        cache: directory of the token file, which is named after a digest of the pairs and the
            vocabulary, written once and memory-mapped. If it is `None` or read-only, the tokens
            are kept in memory.
    """
    if cache is None:
        return _index(_encode(pairs, vocabulary))
    digest = hashlib.blake2b(digest_size=16)
    digest.update(f"{len(pairs)} {pairs.fingerprint} {vocabulary.fingerprint}".encode())
    path = Path(cache) / f"{digest.hexdigest()}.npy"
    try:
        return _index(np.load(path, mmap_mode="r"), path)
    except (OSError, ValueError, EOFError):  # missing or damaged
        ids = _encode(pairs, vocabulary)
        with suppress_read_only():
            with atomic_write(path) as file:
                write_array(file, ids)
            ids = np.load(path, mmap_mode="r")
        return _index(ids, path)


def _encode(pairs: Pairs, vocabulary: Vocabulary) -> Integer[np.ndarray, " total"]:
    """Encode pairs as source 0, EOS, target 0, EOS, source 1, ...; no text encodes to EOS."""
    dtype = np.uint16 if len(vocabulary) <= 2**16 else np.int32
    chunks = [np.empty(0, dtype)]
    for chunk in pairs.chunks():
        encoded = vocabulary.encode([sentence for pair in chunk for sentence in pair])
        chunks.append(np.fromiter((i for ids in encoded for i in (*ids, EOS)), dtype))
    return np.concatenate(chunks)


def _index(ids: Integer[np.ndarray, " total"], cache: Path | None = None) -> TokenizedPairs:
    """Locate the sentences in the output of `_encode` by their EOS tokens."""
    ends = np.flatnonzero(ids == EOS) + 1
    starts = np.concatenate([np.zeros(1, ends.dtype), ends[:-1]])[: len(ends)]
    lengths = (ends - starts).astype(np.int32)
    source, target = (Sentences(ids, starts[i::2], lengths[i::2]) for i in (0, 1))
    return TokenizedPairs(source, target, cache)
