"""Multi-host runs: initialization, synchronization and distribution of work over processes.

Every process runs the same program on the same global arrays. The primary process (index 0) writes
the files of the run.
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

from training import mesh
from training.errors import UserError
from training.signals import catch_stop_signals, stop_signals
from training.streams import detach_closed_streams

HEARTBEAT_TIMEOUT = 20  # seconds without a heartbeat after which a process counts as dead
SHUTDOWN_TIMEOUT = 40  # seconds that a finished process waits for the others

Item = TypeVar("Item")
Result = TypeVar("Result")


def initialize_distributed(
    coordinator: str | None, processes: int | None, process_id: int | None
) -> None:
    """Connect to the other processes of the run. Must precede any other use of JAX.

    Arguments that are `None` are detected under Slurm, Open MPI, Kubernetes and on Cloud TPUs.

    Args:
        coordinator: 'HOST:PORT' of process 0.
        processes: number of processes.
        process_id: index of this process.

    Raises:
        UserError: if an argument is neither given nor detected.
    """
    try:
        jax.distributed.initialize(
            coordinator,
            processes,
            process_id,
            heartbeat_timeout_seconds=HEARTBEAT_TIMEOUT,
            shutdown_timeout_seconds=SHUTDOWN_TIMEOUT,
        )
    except (ValueError, TypeError, IndexError) as error:
        raise UserError(
            f"The other processes of this run are unknown ({error}): pass --coordinator=HOST:PORT"
            " --processes=N --process_id=I, or start the run under Slurm, Open MPI, Kubernetes or"
            " on a Cloud TPU, where they are detected."
        ) from error


def is_primary() -> bool:
    """Return whether this process writes the files of the run; true in a single-process run."""
    return jax.process_index() == 0


def barrier() -> None:
    """Block until all processes have reached this call."""
    if jax.process_count() > 1:
        multihost_utils.sync_global_devices("wait")


def all_gather(tree: Any) -> Any:
    """Gather arrays sharded over hosts: every host has a copy, sharded over its own devices."""
    if jax.process_count() == 1:
        return tree
    gathered = multihost_utils.process_allgather(tree, tiled=True)
    local = mesh.make_mesh(jax.local_devices(), data=1, fsdp=-1, tensor=1)
    return jax.device_put(gathered, mesh.shardings(gathered, local))


def map_over_hosts(fn: Callable[[Item], Result], items: Iterable[Item]) -> Iterator[Result]:
    """Distribute items round-robin over hosts, apply `fn`, and yield all results in order.

    Every host must pass the same items and receives every result. Results are pickled, so they
    should be NumPy arrays or plain Python values.
    """
    hosts, host = jax.process_count(), jax.process_index()
    if hosts == 1:
        yield from map(fn, items)
        return
    count, results = 0, []
    for count, item in enumerate(items, start=1):
        if (count - 1) % hosts == host:
            results.append(fn(item))
    gathered = [pickle.loads(data) for data in _all_gather_bytes(pickle.dumps(results))]
    for i in range(count):
        yield gathered[i % hosts][i // hosts]


def _all_gather_bytes(data: bytes) -> list[bytes]:
    """Gather byte strings of different lengths, padded to the longest for the exchange."""
    lengths = multihost_utils.process_allgather(np.int32(len(data)))
    padded = np.zeros(lengths.max(), np.uint8)
    padded[: len(data)] = np.frombuffer(data, np.uint8)
    gathered = multihost_utils.process_allgather(padded)
    return [x[:length].tobytes() for x, length in zip(gathered, lengths, strict=True)]


@contextlib.contextmanager
def stop_signal() -> Iterator[Callable[[int], int]]:
    """Catch stop signals; yield a function of the step that returns the received signal, or 0.

    The function must be called after each step. All hosts get the same result at the same step,
    even if the signal reached only one of them.
    """
    if jax.process_count() == 1:
        with catch_stop_signals() as caught:
            yield lambda step: caught[0] if caught else 0
        return
    # JAX's preemption service handles SIGTERM on all hosts; forward the other signals to it.
    forwarded = [number for number in stop_signals() if number != signal.SIGTERM]
    previous = {number: signal.signal(number, _send_sigterm) for number in forwarded}
    try:
        yield (
            lambda step: (
                signal.SIGTERM if multihost_utils.reached_preemption_sync_point(step) else 0
            )
        )
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)


def _send_sigterm(number: int, frame: Any) -> None:
    del number, frame
    detach_closed_streams()
    os.kill(os.getpid(), signal.SIGTERM)
