"""Sentence pairs by number, whatever they are read from."""

import functools
import hashlib
from collections.abc import Iterator, Sequence
from typing import Any, overload


class Pairs(Sequence[tuple[str, str]]):
    """Random access to (source sentence, target sentence); a slice gives a list of them."""

    @property
    def fingerprint(self) -> str:
        """Digest of the content, for caches that depend on it."""
        raise NotImplementedError

    @property
    def references(self) -> Sequence[Sequence[str]]:
        """What is right for each source: its target, unless a corpus knows of several."""
        return [(target,) for _, target in self]

    def __iter__(self) -> Iterator[tuple[str, str]]:
        for chunk in self.chunks():
            yield from chunk

    def chunks(self, size: int = 4096) -> Iterator[list[tuple[str, str]]]:
        """All pairs in order, many at a time: records on disk are read three times as fast so."""
        for start in range(0, len(self), size):
            yield self[start : start + size]

    @overload
    def __getitem__(self, index: int) -> tuple[str, str]: ...
    @overload
    def __getitem__(self, index: slice) -> list[tuple[str, str]]: ...
    def __getitem__(self, index):
        raise NotImplementedError


class TextPairs(Pairs):
    """Pairs held in memory."""

    def __init__(self, sources: Sequence[str], targets: Sequence[str]):
        if len(sources) != len(targets):
            raise ValueError(f"{len(sources)} source sentences, {len(targets)} target sentences")
        self.sources = sources
        self.targets = targets

    @functools.cached_property
    def fingerprint(self) -> str:
        digest = hashlib.blake2b(digest_size=16)
        for side in (self.sources, self.targets):
            digest.update("\n".join(side).encode())
            digest.update(b"\0")
        return digest.hexdigest()

    def __len__(self) -> int:
        return len(self.sources)

    def __getitem__(self, index):
        if isinstance(index, slice):
            return list(zip(self.sources[index], self.targets[index], strict=True))
        return self.sources[index], self.targets[index]


class RecordPairs(Pairs):
    """Pairs read when asked for, from a tfds data source of {language: UTF-8 bytes} records.

    The fingerprint is given: to digest the content would be to read millions of records.
    """

    def __init__(self, records: Any, source: str, target: str, fingerprint: str):
        self._records = records
        self._source = source
        self._target = target
        self._fingerprint = fingerprint

    @property
    def fingerprint(self) -> str:
        return self._fingerprint

    def __len__(self) -> int:
        return len(self._records)

    def __getitem__(self, index):
        if isinstance(index, slice):
            chosen = range(len(self))[index]
            return [self._text(record) for record in self._records.__getitems__(list(chosen))]
        return self._text(self._records[range(len(self))[index]])

    def _text(self, record: dict[str, bytes]) -> tuple[str, str]:
        return record[self._source].decode(), record[self._target].decode()
