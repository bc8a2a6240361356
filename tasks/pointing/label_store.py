"""Labelled points from the host, for what the device cannot label inside the step.

They are in a folder that processes fill ahead of training: files of a fixed number of instances,
each with its checksum, so that what is there is used again and what is damaged is made anew.
"""

import concurrent.futures
import contextlib
import hashlib
import io
import multiprocessing
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int

from tasks.pointing.solvers import Solver, padded
from training import mesh
from training.errors import UserError

CHUNK = 5_120  # instances of a file
SHAPES = 4  # lengths of arrays, of points and of choices; each pair of them is a program
Batch = dict[str, np.ndarray]


class Chunk(NamedTuple):
    """Instances of one size."""

    points: Float[np.ndarray, "B N 2"]
    choices: Int[np.ndarray, "B T"]  # -1 after the last


class Labels:
    """Instances of `low` to `high` points, the same for every run that asks for them.

    Args:
        solve: gives the choices of points.
        name: of the solver and its options, by which its folder is called.
        sizes: `low` and `high`; file n has instances of the n-th size, around and around.
        instances: how many in all, rounded up to whole files.
        rows: of a batch.
        folder: where they are kept.

    Raises:
        UserError: if files cannot be cut into batches of that size, or are fewer than sizes.
    """

    def __init__(
        self,
        solve: Solver,
        name: str,
        sizes: tuple[int, int],
        instances: int,
        rows: int,
        folder: str,
    ):
        if CHUNK % rows:
            raise UserError(f"A batch of {rows} labelled instances does not divide {CHUNK:,}.")
        self.solve, self.sizes, self.rows = solve, tuple(sizes), rows
        self.count = -(-instances // CHUNK)
        if self.count <= (span := sizes[1] - sizes[0]):
            raise UserError(
                f"data.labels.instances={instances} fill files of {CHUNK:,} of the smallest sizes "
                f"only: {span * CHUNK + 1:,} are the fewest that have all."
            )
        self.folder = Path(folder, f"{name}-{sizes[0]}-{sizes[1]}")

    def size(self, number: int) -> int:
        """Points of an instance of a file."""
        low, high = self.sizes
        return low + number % (high - low + 1)

    def path(self, number: int) -> Path:
        """Where a file is."""
        return self.folder / f"{number:05d}.points"

    def batches(self, steps: Callable[[int], int], start_step: int) -> Iterator[Batch]:
        """Batches without end, the same from any start; all rows of a batch have one size.

        The first time they come in the files' order, so that training need not wait for the last of
        them, but mixed with those of the files beside it, which have every other size; from then on
        all are mixed, anew each time. Arrays are as long as the batch's points and its longest
        answer, rounded up to one of a few lengths.

        Args:
            steps: most choices of an answer about so many points.
            start_step: how many batches to leave out.
        """
        per_chunk = CHUNK // self.rows
        total, step = self.count * per_chunk, start_step
        low, high = self.sizes
        with self._made() as chunk_of:
            while True:
                lap, at = divmod(step, total)
                mixed = total if lap else (high - low + 1) * per_chunk
                begin = at - at % mixed
                order = np.random.default_rng((lap, begin)).permutation(min(mixed, total - begin))
                number, part = divmod(begin + int(order[at - begin]), per_chunk)
                yield self._batch(chunk_of(number), part * self.rows, steps)
                step += 1

    def _batch(self, chunk, start, steps):
        rows = slice(start, start + self.rows)
        points, choices = chunk.points[rows], chunk.choices[rows]
        n, high = points.shape[1], self.sizes[1]
        size = _rounded(n, high)
        longest = int(np.sum(choices >= 0, axis=1).max()) + 1  # with an end, if there is one
        length = _rounded(min(longest, steps(n)), steps(high))
        choices = np.where(choices < 0, size, choices)[:, :length]
        fill = ((0, 0), (0, length - choices.shape[1]))
        return {
            "points": np.pad(points, ((0, 0), (0, size - n), (0, 0))),
            "count": np.full(self.rows, n, np.int32),
            "choices": np.pad(choices.astype(np.int32), fill, constant_values=size),
        }

    @contextlib.contextmanager
    def _made(self) -> Iterator[Callable[[int], Chunk]]:
        """A function that waits for a file, while processes make those that are missing."""
        missing = [n for n in range(self.count) if not self.path(n).exists()]
        chunks: dict[int, Chunk] = {}
        with contextlib.ExitStack() as stack:
            futures = {}
            if missing:
                pool = concurrent.futures.ProcessPoolExecutor(
                    max_workers=mesh.available_cpus(),
                    mp_context=multiprocessing.get_context("spawn"),
                )
                stack.callback(pool.shutdown, wait=False, cancel_futures=True)
                futures = {n: pool.submit(self.make, n) for n in missing}

            def chunk_of(number: int) -> Chunk:
                if number not in chunks:
                    if number in futures:
                        futures.pop(number).result()
                    self.make(number)  # if it is not there, or damaged
                    chunks[number] = self.read(number)
                return chunks[number]

            yield chunk_of

    def make(self, number: int) -> None:
        """Labels the instances of a file, unless they are there and whole."""
        with contextlib.suppress(FileNotFoundError, DamagedError):
            self.read(number)
            return
        rng = np.random.default_rng((2015, *self.sizes, number))
        points = rng.random((CHUNK, self.size(number), 2), np.float32)
        buffer = io.BytesIO()
        np.savez(buffer, points=points, choices=padded(self.solve(points)))
        content = buffer.getvalue()
        self.folder.mkdir(parents=True, exist_ok=True)
        new = self.path(number).with_suffix(f".{os.getpid()}")
        new.write_bytes(hashlib.sha256(content).digest() + content)
        new.replace(self.path(number))  # at once: nobody meets half a file

    def read(self, number: int) -> Chunk:
        """A file's instances.

        Raises:
            FileNotFoundError: if it is not there.
            DamagedError: if it is not what was written.
        """
        content = self.path(number).read_bytes()
        if hashlib.sha256(content[32:]).digest() != content[:32]:
            raise DamagedError(self.path(number))
        with np.load(io.BytesIO(content[32:])) as arrays:
            return Chunk(arrays["points"], arrays["choices"])


def _rounded(length, most):
    """Up to a whole number of even parts of `most`, itself rounded up."""
    return -(-most * -(-length * SHAPES // most) // SHAPES)


class DamagedError(Exception):
    """A file that is not what was written."""
