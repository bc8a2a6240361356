"""One run on many hosts: how its processes find each other, agree, and share out work.

Every process runs the same program on the same global arrays. What only one should do, such as
writing the record, the first one does.
"""

import contextlib
import os
import pickle
import signal
from collections.abc import Callable, Iterable, Iterator
from typing import Any, TypeVar

import jax
import numpy as np
from jax.experimental import multihost_utils

from training.errors import UserError
from training.signals import leave_closed_terminal, signals, watched

HEARTBEAT = 20  # seconds without a sign of life, after which a process counts as dead
SHUTDOWN = 40  # seconds that a process which ends waits for the others

Item = TypeVar("Item")
Result = TypeVar("Result")


def initialize_distributed(
    coordinator: str | None, processes: int | None, process_id: int | None
) -> None:
    """Meets the other processes of the run; to be called before anything else of JAX.

    Args:
        coordinator: 'HOST:PORT' of the first process; None where Slurm, Open MPI, Kubernetes or a
            Cloud TPU tells.
        processes: how many there are, or None.
        process_id: which of them this is, or None.

    Raises:
        UserError: if neither the flags nor the surroundings say who the others are.
    """
    try:
        jax.distributed.initialize(
            coordinator,
            processes,
            process_id,
            heartbeat_timeout_seconds=HEARTBEAT,
            shutdown_timeout_seconds=SHUTDOWN,
        )
    except (ValueError, TypeError, IndexError) as error:
        raise UserError(
            f"The other processes of this run are not known ({error}): give --coordinator=HOST:PORT"
            " --processes=N --process_id=I, or start under Slurm, Open MPI, Kubernetes or on a"
            " Cloud TPU, which tell."
        ) from error


def is_primary() -> bool:
    """Whether this process is the one that writes; a process alone is."""
    return jax.process_index() == 0


def barrier() -> None:
    """Returns when all processes have come here."""
    if jax.process_count() > 1:
        multihost_utils.sync_global_devices("wait")


def all_gather(tree: Any) -> Any:
    """Whole copies, on a device of this host, of arrays that are split over hosts."""
    if jax.process_count() == 1:
        return tree
    whole = multihost_utils.process_allgather(tree, tiled=True)
    return jax.device_put(whole, jax.local_devices()[0])


def map_over_hosts(work: Callable[[Item], Result], items: Iterable[Item]) -> Iterator[Result]:
    """`map(work, items)`, each item done by one host and its result, in order, given to all.

    Every host must ask for the same items. Results are pickled: let them be NumPy's.
    """
    hosts, mine = jax.process_count(), jax.process_index()
    if hosts == 1:
        yield from map(work, items)
        return
    count, results = 0, []
    for count, item in enumerate(items, start=1):
        if (count - 1) % hosts == mine:
            results.append(work(item))
    of_hosts = [pickle.loads(data) for data in _exchange(pickle.dumps(results))]
    for i in range(count):
        yield of_hosts[i % hosts][i // hosts]


def _exchange(data: bytes) -> list[bytes]:
    """What each host gives, for all."""
    lengths = multihost_utils.process_allgather(np.int32(len(data)))
    padded = np.zeros(lengths.max(), np.uint8)
    padded[: len(data)] = np.frombuffer(data, np.uint8)
    rows = multihost_utils.process_allgather(padded)
    return [row[:length].tobytes() for row, length in zip(rows, lengths, strict=True)]


@contextlib.contextmanager
def stop_signal() -> Iterator[Callable[[int], int]]:
    """Yields a function to ask after each step: which signal says to stop there, or 0.

    All hosts get the same answer at the same step, though a signal may reach one of them alone.
    """
    if jax.process_count() == 1:
        with signals() as caught:
            yield lambda step: caught[0] if caught else 0
        return
    # JAX has its own handler of SIGTERM, which tells the others; let Ctrl-C be the same.
    others = [number for number in watched() if number != signal.SIGTERM]
    before = {number: signal.signal(number, _terminate) for number in others}
    try:
        yield (
            lambda step: (
                signal.SIGTERM if multihost_utils.reached_preemption_sync_point(step) else 0
            )
        )
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _terminate(number: int, frame: Any) -> None:
    del number, frame
    leave_closed_terminal()
    os.kill(os.getpid(), signal.SIGTERM)
