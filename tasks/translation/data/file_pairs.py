"""Sentence pairs in text files that are read as streams, so that a corpus may exceed the memory."""

import hashlib
import itertools
import json
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from tasks.files import digest
from tasks.text import read_lines
from tasks.translation.data.pairs import Pairs, TextPairs
from training.errors import UserError
from training.files import atomic_write, suppress_read_only

Shard = tuple[Path, Path]  # source and target file, whose lines are translations of each other

# File systems store modification times with a resolution of up to 2 s. A file that was modified
# within this time before it was read may be modified again without a change of its time.
_TIME_RESOLUTION = 2.0  # s


class _Index(NamedTuple):
    """Properties of the files that take a pass over them."""

    counts: list[int]  # pairs of each shard
    fingerprint: str


class FilePairs(Pairs):
    """Pairs of one or several pairs of files, read on access, in the order of the files.

    Neither text nor line positions are kept in memory: access by index reads all lines before it.

    Args:
        shards: the files.
        allow_empty: whether lines may be empty, as in training, which leaves such pairs out.
    """

    def __init__(self, shards: Sequence[Shard], *, allow_empty: bool):
        self._shards = shards
        self._allow_empty = allow_empty
        self._index: _Index | None = None

    def check(self, cache: Path | None = None) -> None:
        """Read all files once to check and count the lines, unless the cache has the result.

        Args:
            cache: directory of the result, which is valid until a file has another path, size or
                modification time.

        Raises:
            UserError: if a file cannot be read, is empty or not UTF-8, a line is empty that must
                not be, or the files of a pair have different numbers of lines.
        """
        path, settled = self._cache_file(cache)
        if path is not None:
            try:
                self._index = _Index(**json.loads(path.read_bytes()))
                return
            except (OSError, ValueError, TypeError):  # missing or damaged
                pass
        self._index = self._scan()
        if path is not None and settled:
            with suppress_read_only(), atomic_write(path) as file:
                file.write(json.dumps(self._index._asdict()).encode())

    def in_memory(self) -> TextPairs:
        """Read all pairs into memory."""
        self.check()
        sources, targets = zip(*self, strict=True)
        return TextPairs(sources, targets)

    @property
    def fingerprint(self) -> str:
        """Digest of the lines; it does not depend on their distribution over files."""
        return self._indexed().fingerprint

    def __len__(self) -> int:
        return sum(self._indexed().counts)

    def __getitem__(self, index):
        if isinstance(index, slice):
            return list(itertools.islice(self, *index.indices(len(self))))
        return next(itertools.islice(self, range(len(self))[index], None))

    def chunks(self, size: int = 4096) -> Iterator[list[tuple[str, str]]]:
        for shard, count in zip(self._shards, self._indexed().counts, strict=True):
            pairs = zip(*map(_lines, shard), strict=False)
            while chunk := list(itertools.islice(pairs, size)):
                yield chunk
                count -= len(chunk)
            if count:
                source, target = shard
                raise UserError(f"{source} or {target} changed while it was read: start again.")

    def _indexed(self) -> _Index:
        if self._index is None:
            self.check()
        assert self._index is not None
        return self._index

    def _cache_file(self, cache: Path | None) -> tuple[Path | None, bool]:
        """Return the file of the index, and whether it may be written."""
        if cache is None:
            return None, False
        try:
            paths = [path.resolve() for shard in self._shards for path in shard]
            stats = [path.stat() for path in paths]
        except OSError:  # reading the file reports the error
            return None, False
        parts = [
            f"{path}\n{stat.st_size} {stat.st_mtime_ns}\n".encode(errors="surrogateescape")
            for path, stat in zip(paths, stats, strict=True)
        ]
        newest = max(stat.st_mtime for stat in stats)
        name = digest([str(self._allow_empty).encode(), *parts])
        return cache / f"{name}.json", newest < time.time() - _TIME_RESOLUTION

    def _scan(self) -> _Index:
        hasher = hashlib.blake2b(digest_size=16)  # as `TextPairs.fingerprint`
        counts: list[list[int]] = []
        for side in (0, 1):
            counts.append([])
            separator = ""
            for shard in self._shards:
                counts[side].append(0)
                for lines in read_lines(shard[side]):
                    self._check_empty(lines, shard[side], counts[side][-1])
                    hasher.update((separator + "\n".join(lines)).encode())
                    counts[side][-1] += len(lines)
                    separator = "\n"
                if not counts[side][-1]:
                    raise UserError(f"{shard[side]} is empty: add sentences or remove it.")
            hasher.update(b"\0")
        for (source, target), of_source, of_target in zip(self._shards, *counts, strict=True):
            if of_source != of_target:
                raise UserError(
                    f"{source} has {of_source} lines but {target} has {of_target}: "
                    "line i of one must be the translation of line i of the other."
                )
        return _Index(counts[0], hasher.hexdigest())

    def _check_empty(self, lines: list[str], path: Path, before: int) -> None:
        if not self._allow_empty and "" in lines:
            raise UserError(
                f"{path}, line {before + lines.index('') + 1} is empty: "
                "remove the line in both languages."
            )


def _lines(path: Path) -> Iterator[str]:
    return itertools.chain.from_iterable(read_lines(path))
