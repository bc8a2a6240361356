"""Sequences of sentence pairs, in memory or read from disk."""

import functools
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, overload

import numpy as np
from jaxtyping import Int

from tasks.files import digest
from training.errors import UserError

Indices = range | Int[np.ndarray, " N"]


class Pairs:
    """Pairs (source sentence, target sentence), read in order or by index; a slice is a list."""

    def __len__(self) -> int:
        raise NotImplementedError

    @property
    def fingerprint(self) -> str:
        """Digest of the content, for caches that depend on it."""
        raise NotImplementedError

    @property
    def summary(self) -> str:
        """Number of pairs, and digest of the content."""
        return f"{len(self):,} pairs (digest {self.fingerprint})"

    @property
    def references(self) -> Sequence[Sequence[str]]:
        """References of each source sentence: its target, unless a corpus has several."""
        return [(target,) for _, target in self]

    def check(self, cache: Path | None = None) -> None:
        """Check data that is not checked yet; results may be stored in the directory `cache`.

        Raises:
            UserError: if the data is faulty.
        """

    def __iter__(self) -> Iterator[tuple[str, str]]:
        for chunk in self.chunks():
            yield from chunk

    def chunks(self, size: int = 4096) -> Iterator[list[tuple[str, str]]]:
        """Yield lists of consecutive pairs; records are read three times as fast in chunks."""
        for start in range(0, len(self), size):
            yield self[start : start + size]

    @overload
    def __getitem__(self, index: int) -> tuple[str, str]: ...
    @overload
    def __getitem__(self, index: slice) -> list[tuple[str, str]]: ...
    def __getitem__(self, index):
        raise NotImplementedError


class TextPairs(Pairs):
    """Pairs in memory."""

    def __init__(self, sources: Sequence[str], targets: Sequence[str]):
        if len(sources) != len(targets):
            raise ValueError(f"{len(sources)} source sentences but {len(targets)} target sentences")
        self.sources = sources
        self.targets = targets

    @functools.cached_property
    def fingerprint(self) -> str:
        return digest("\n".join(x).encode() + b"\0" for x in (self.sources, self.targets))

    def __len__(self) -> int:
        return len(self.sources)

    def __getitem__(self, index):
        if isinstance(index, slice):
            return list(zip(self.sources[index], self.targets[index], strict=True))
        return self.sources[index], self.targets[index]


class Splits(dict[str, Pairs]):
    """Sentence pairs by split name.

    Args:
        splits: the pairs.
        ignored_files: files beside the corpus that belong to no split, for `describe`.
    """

    def __init__(self, splits: Mapping[str, Pairs], ignored_files: Sequence[str] = ()):
        super().__init__(splits)
        self.ignored_files = ignored_files

    def describe(self, name: str) -> dict[str, str]:
        """Summarize the corpus `name`, in rows for the header of a run."""
        sizes = ", ".join(f"{len(pairs):,} {split}" for split, pairs in self.items())
        rows = {"data": f"{name}: {sizes}"}
        if self.ignored_files:
            rows["ignored"] = ", ".join(self.ignored_files)
        return rows


class RecordPairs(Pairs):
    """Pairs read on access from records {language: UTF-8 bytes}.

    Args:
        records: data source of tensorflow-datasets.
        source: language of the source sentences.
        target: language of the target sentences.
        fingerprint: identifier of the data; a digest would have to read every record.
        indices: the records to read, in order.
    """

    def __init__(self, records: Any, source: str, target: str, fingerprint: str, indices: Indices):
        self._records = records
        self._indices = indices
        self._source = source
        self._target = target
        self._fingerprint = fingerprint

    @property
    def fingerprint(self) -> str:
        return self._fingerprint

    def __len__(self) -> int:
        return len(self._indices)

    def __getitem__(self, index):
        if isinstance(index, slice):
            indices = np.asarray(self._indices[index]).tolist()
            return [self._decode(record) for record in self._records.__getitems__(indices)]
        return self._decode(self._records[int(self._indices[index])])

    def _decode(self, record: dict[str, bytes]) -> tuple[str, str]:
        try:
            return record[self._source].decode(), record[self._target].decode()
        except UnicodeDecodeError as error:
            raise UserError(
                f"{self._fingerprint} has a sentence that is not UTF-8: prepare the dataset again."
            ) from error
