"""Packing of sentence pairs into rows of fixed length, with segment ids and positions.

Several pairs share a row, as in T5 and MaxText: every batch has one shape, so XLA compiles one
program, and almost no position is padding. Attention is masked by segment, so that a sentence
attends to itself and its translation only (`attention.masks.segments`).

The packing plan is computed once and stored beside the tokens. Each epoch permutes the rows. The
rows of batch i depend only on the seed and i, so a resumed run sees the batches of an uninterrupted
run.
"""

import functools
import sys
import threading
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Int, Int32

from tasks.translation.data.tokenized import Lengths, Sentences, TokenizedPairs
from tasks.vocabulary import PAD
from training.errors import UserError
from training.files import atomic_write, suppress_read_only, write_array

Batch = dict[str, Int32[np.ndarray, "B _"]]

OPTIONS = {"rows", "source_length", "target_length"}  # keys of the config section
OPEN_ROWS = 256  # rows that are not closed, to which pairs are added
CHUNK = 4096  # pairs that are sorted by length before they are placed


def check_packing(packing: Mapping[str, Any], supported: bool, architecture: str) -> None:
    """Check the `packing` section of a config, which is empty for training on length buckets.

    Args:
        packing: the section.
        supported: whether the model can train on packed rows.
        architecture: name of the model.

    Raises:
        UserError: if packing is not supported, or the section has other keys than `OPTIONS` or
            other values than positive integers.
    """
    if not packing:
        return
    if not supported:
        raise UserError(
            f"The architecture '{architecture}' cannot train on packed rows: remove the options "
            "of the packing section, so that the model trains on batching.buckets."
        )
    positive = all(isinstance(value, int) and value > 0 for value in packing.values())
    if not (positive and packing.keys() == OPTIONS):
        raise UserError(
            f"The packing section must be empty or have the positive integers "
            f"{', '.join(sorted(OPTIONS))}, not {packing}."
        )


class PackingPlan(NamedTuple):
    """Row r holds the pairs `order[ends[r - 1] : ends[r]]`."""

    order: Int[np.ndarray, " N"]
    ends: Int[np.ndarray, " R"]

    def row(self, r: int) -> Int[np.ndarray, " M"]:
        """Return the indices of the pairs in row r."""
        return self.order[self.ends[r - 1] if r else 0 : self.ends[r]]


def plan_packing(
    source_lengths: Int[np.ndarray, " N"], target_lengths: Int[np.ndarray, " N"], row: Lengths
) -> PackingPlan:
    """Assign pairs to rows by best fit.

    Pairs are taken in a fixed random order, in chunks that are sorted by decreasing length: long
    pairs open rows that the short pairs of the same chunk fill. Sorting chunks rather than the
    whole corpus keeps sentences of different lengths together in a row.

    Args:
        source_lengths: tokens of each source, EOS included, at most `row[0]`.
        target_lengths: tokens of each target, EOS included, at most `row[1]`.
        row: tokens of a row on either side.
    """
    order = np.random.default_rng(0).permutation(len(source_lengths)).astype(np.int32)
    row_of = np.empty(len(order), np.int32)
    free = np.full((2, OPEN_ROWS), -1, np.int64)  # tokens left on either side of each open row
    number = np.full(OPEN_ROWS, -1)
    rows = 0
    for start in range(0, len(order), CHUNK):
        chunk = order[start : start + CHUNK]
        lengths = np.stack([source_lengths[chunk], target_lengths[chunk]], axis=-1).astype(np.int64)
        size = (lengths / np.array(row)).max(-1)
        for j in np.argsort(-size, kind="stable"):
            source, target = lengths[j]
            left = (free[0] - source) / row[0] + (free[1] - target) / row[1]
            left[(free[0] < source) | (free[1] < target)] = np.inf
            slot = int(left.argmin())
            if left[slot] == np.inf:  # close the fullest row and open another in its place
                slot = int(free.sum(0).argmin())
                free[:, slot], number[slot], rows = row, rows, rows + 1
            free[:, slot] -= source, target
            row_of[chunk[j]] = number[slot]
    by_row = np.argsort(row_of, kind="stable").astype(np.int32)
    return PackingPlan(by_row, np.cumsum(np.bincount(row_of, minlength=rows)))


def load_plan(pairs: TokenizedPairs, row: Lengths) -> PackingPlan:
    """Read the plan that is stored beside the tokens, or compute and store it."""
    compute = functools.partial(plan_packing, pairs.source.lengths, pairs.target.lengths, row)
    if pairs.cache is None:
        return compute()
    path = pairs.cache.with_name(f"{pairs.cache.stem}.packed_{row[0]}_{row[1]}.npy")
    try:
        order, row_of = np.load(path)
        if len(order) == len(pairs):
            return PackingPlan(order, np.cumsum(np.bincount(row_of)))
    except (OSError, ValueError, EOFError):  # missing or damaged
        pass
    plan = compute()
    row_of = np.repeat(np.arange(len(plan.ends), dtype=np.int32), np.diff(plan.ends, prepend=0))
    with suppress_read_only(), atomic_write(path) as file:
        write_array(file, np.stack([plan.order, row_of]))
    return plan


class PackedBatches:
    """Infinite sequence of training batches; `batches[i]` depends only on the seed and i.

    A batch holds `source` and `target` tokens `[B, S]` and `[B, T]`, and for each side
    `*_segments`, the number of the pair within its row from 1 on, and `*_positions`, the position
    within the sentence; all three are 0 at padding. Every row occurs once per epoch; batches may
    span two epochs, so that all are full.

    Args:
        pairs: training pairs, none longer than a row.
        row: S and T, tokens of a row on either side.
        batch_size: B, rows of a batch.
        seed: seed of the permutations.
    """

    def __init__(self, pairs: TokenizedPairs, row: Lengths, batch_size: int, seed: int):
        if not len(pairs):
            raise UserError(
                f"No training pair is left: none has text on both sides and fits into "
                f"max_training_length and into packing.source_length={row[0]} and "
                f"packing.target_length={row[1]} tokens: enlarge these, or correct the text."
            )
        self._pairs, self._row, self._batch_size, self._seed = pairs, row, batch_size, seed
        self.plan = load_plan(pairs, row)
        self._permutation = functools.lru_cache(maxsize=2)(self._permute)
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return sys.maxsize

    @property
    def rows(self) -> int:
        """Number of rows in an epoch."""
        return len(self.plan.ends)

    @property
    def fill_rate(self) -> float:
        """Share of the positions of both sides that hold a token of a sentence."""
        tokens = sum(int(side.lengths.sum()) for side in self._pairs.sides)
        return tokens / (self.rows * sum(self._row))

    def __getitem__(self, i: int) -> Batch:
        numbers = range(i * self._batch_size, (i + 1) * self._batch_size)
        with self._lock:
            rows = [int(self._permutation(n // self.rows)[n % self.rows]) for n in numbers]
        pairs = [self.plan.row(r) for r in rows]
        batch: Batch = {}
        for name, side, length in zip(
            ("source", "target"), self._pairs.sides, self._row, strict=True
        ):
            shape = len(rows), length
            batch |= {f"{name}{kind}": x for kind, x in pack(side, pairs, shape).items()}
        return batch

    def _permute(self, epoch: int) -> Int[np.ndarray, " R"]:
        return np.random.default_rng((self._seed, epoch)).permutation(self.rows)


def pack(
    sentences: Sentences, rows: list[Int[np.ndarray, " _"]], shape: tuple[int, int]
) -> dict[str, Int32[np.ndarray, "B L"]]:
    """Lay out sentences in rows, one after another.

    Args:
        sentences: sentences of one language.
        rows: indices of the sentences of each row.
        shape: B and L.

    Returns:
        Tokens (key ''), '_segments' and '_positions', each `[B, L]` and 0 at padding.
    """
    counts = np.array([len(indices) for indices in rows])
    indices = np.concatenate(rows)
    lengths = sentences.lengths[indices]
    row = np.repeat(np.arange(len(rows)), counts)
    before = np.cumsum(lengths) - lengths  # tokens before each sentence, in all rows
    in_row = before - np.repeat(before[np.cumsum(counts) - counts], counts)
    position = np.arange(lengths.sum()) - np.repeat(before, lengths)
    at = np.repeat(row, lengths), np.repeat(in_row, lengths) + position
    number = np.arange(len(indices)) - np.repeat(np.cumsum(counts) - counts, counts) + 1
    values = {
        "": sentences.tokens(indices),
        "_segments": np.repeat(number, lengths),
        "_positions": position,
    }
    packed = {}
    for kind, x in values.items():
        packed[kind] = np.full(shape, PAD, np.int32)
        packed[kind][at] = x
    return packed
