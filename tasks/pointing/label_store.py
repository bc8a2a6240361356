"""Labeled training instances on disk, for solvers that do not run inside the training step.

Worker processes label the instances ahead of training and write them to files of a fixed number of
instances. Each file has a checksum: existing files are reused and damaged ones are rewritten.
"""

import concurrent.futures
import contextlib
import hashlib
import io
import multiprocessing
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int

from tasks.pointing.solvers import Solver, pad_solutions
from training import mesh
from training.errors import UserError
from training.files import atomic_write

INSTANCES_PER_FILE = 5_120
NUM_LENGTHS = 4  # array lengths for points and for choices; each pair compiles one program
HASH_BYTES = 32
Batch = dict[str, np.ndarray]


class LabeledInstances(NamedTuple):
    """Contents of a file: instances with the same number of points."""

    points: Float[np.ndarray, "B N 2"]
    choices: Int[np.ndarray, "B T"]  # padded with -1


class LabelStore:
    """Labeled instances of `low` to `high` points; they do not depend on the seed of the run.

    Args:
        solve: solver that labels the instances.
        name: name of the solver, part of the directory name.
        sizes: `low` and `high`. File n has instances of low + n mod (high - low + 1) points.
        instances: number of instances, rounded up to a multiple of `INSTANCES_PER_FILE`.
        batch_size: instances per batch.
        directory: directory of the store.

    Raises:
        UserError: if the batch size does not divide a file, or if there are fewer files than sizes.
    """

    def __init__(
        self,
        solve: Solver,
        name: str,
        sizes: tuple[int, int],
        instances: int,
        batch_size: int,
        directory: str,
    ):
        if INSTANCES_PER_FILE % batch_size:
            raise UserError(
                f"The batch size {batch_size} must divide {INSTANCES_PER_FILE:,}, the number of "
                "instances in a file of labels."
            )
        self.solve, self.sizes, self.batch_size = solve, tuple(sizes), batch_size
        self.num_files = -(-instances // INSTANCES_PER_FILE)
        if self.num_files <= (span := sizes[1] - sizes[0]):
            raise UserError(
                f"data.labels.instances={instances} gives {self.num_files} files for {span + 1} "
                f"sizes: increase it to at least {span * INSTANCES_PER_FILE + 1}."
            )
        self.directory = Path(directory, f"{name}-{sizes[0]}-{sizes[1]}")

    def size(self, file: int) -> int:
        """Return the number of points of the instances in a file."""
        low, high = self.sizes
        return low + file % (high - low + 1)

    def path(self, file: int) -> Path:
        """Return the path of a file."""
        return self.directory / f"{file:05d}.points"

    def batches(self, max_steps: Callable[[int], int], start_step: int) -> Iterator[Batch]:
        """Yield shuffled batches forever; batch n does not depend on `start_step`.

        All instances of a batch have the same number of points. In the first epoch, shuffling is
        limited to windows of one file of each size, so that training can start before all files
        are written. Arrays are padded to one of `NUM_LENGTHS` lengths.

        Args:
            max_steps: maximum number of choices for a number of points.
            start_step: number of batches to skip.
        """
        per_file = INSTANCES_PER_FILE // self.batch_size
        total, step = self.num_files * per_file, start_step
        low, high = self.sizes
        with self._labeled_files() as get_file:
            while True:
                epoch, index = divmod(step, total)
                window = total if epoch else (high - low + 1) * per_file
                begin = index - index % window
                rng = np.random.default_rng((epoch, begin))
                order = rng.permutation(min(window, total - begin))
                file, part = divmod(begin + int(order[index - begin]), per_file)
                yield self._batch(get_file(file), part * self.batch_size, max_steps)
                step += 1

    def _batch(self, instances, start, max_steps):
        """Pad the batch that starts at index `start` of a file."""
        selected = slice(start, start + self.batch_size)
        points, choices = instances.points[selected], instances.choices[selected]
        count, high = points.shape[1], self.sizes[1]
        size = _padded_length(count, high)
        longest = int(np.sum(choices >= 0, axis=1).max()) + 1  # with an end token
        length = _padded_length(min(longest, max_steps(count)), max_steps(high))
        choices = np.where(choices < 0, size, choices)[:, :length]
        pad_width = ((0, 0), (0, length - choices.shape[1]))
        return {
            "points": np.pad(points, ((0, 0), (0, size - count), (0, 0))),
            "count": np.full(self.batch_size, count, np.int32),
            "choices": np.pad(choices.astype(np.int32), pad_width, constant_values=size),
        }

    @contextlib.contextmanager
    def _labeled_files(self) -> Iterator[Callable[[int], LabeledInstances]]:
        """Label missing files in worker processes; yield a function that waits for a file."""
        missing = [file for file in range(self.num_files) if not self.path(file).exists()]
        loaded: dict[int, LabeledInstances] = {}
        with contextlib.ExitStack() as stack:
            futures = {}
            if missing:
                pool = concurrent.futures.ProcessPoolExecutor(
                    max_workers=mesh.available_cpus(),
                    mp_context=multiprocessing.get_context("spawn"),
                )
                stack.callback(pool.shutdown, wait=False, cancel_futures=True)
                futures = {file: pool.submit(self.label, file) for file in missing}

            def get_file(file: int) -> LabeledInstances:
                if file not in loaded:
                    if file in futures:
                        futures.pop(file).result()
                    self.label(file)  # if it is missing or damaged
                    loaded[file] = self.read(file)
                return loaded[file]

            yield get_file

    def label(self, file: int) -> None:
        """Sample, label and write the instances of a file, unless it exists and is intact."""
        with contextlib.suppress(FileNotFoundError, ChecksumError):
            self.read(file)
            return
        rng = np.random.default_rng((2015, *self.sizes, file))
        points = rng.random((INSTANCES_PER_FILE, self.size(file), 2), np.float32)
        buffer = io.BytesIO()
        np.savez(buffer, points=points, choices=pad_solutions(self.solve(points)))
        content = buffer.getvalue()
        with atomic_write(self.path(file)) as output:  # other processes read complete files only
            output.write(hashlib.sha256(content).digest() + content)

    def read(self, file: int) -> LabeledInstances:
        """Read the instances of a file.

        Raises:
            FileNotFoundError: if the file does not exist.
            ChecksumError: if the file is damaged.
        """
        data = self.path(file).read_bytes()
        digest, content = data[:HASH_BYTES], data[HASH_BYTES:]
        if hashlib.sha256(content).digest() != digest:
            raise ChecksumError(self.path(file))
        with np.load(io.BytesIO(content)) as arrays:
            return LabeledInstances(arrays["points"], arrays["choices"])


def _padded_length(length, longest):
    """Round up to a multiple of `longest / NUM_LENGTHS`, then to an integer."""
    return -(-longest * -(-length * NUM_LENGTHS // longest) // NUM_LENGTHS)


class ChecksumError(Exception):
    """The content of a file does not match its checksum."""
