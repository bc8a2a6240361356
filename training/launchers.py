"""Launchers: backends that run the commands of a sweep."""

import itertools
import os
import queue
import re
import shutil
import subprocess
import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple, Protocol, runtime_checkable


@runtime_checkable
class Job(Protocol):
    """Submitted command. `concurrent.futures.Future` implements this protocol."""

    def running(self) -> bool:
        """Return whether the command is executing, neither pending nor done."""
        ...

    def done(self) -> bool:
        """Return whether the command has ended."""
        ...

    def result(self) -> int:
        """Return the exit code of a command that is done."""
        ...


class Command(NamedTuple):
    """Command line with the name of its run; its output is appended to `log`."""

    name: str
    argv: Sequence[str]
    log: Path


@runtime_checkable
class Launcher(Protocol):
    """Backend that runs several commands in parallel."""

    def submit(self, commands: Sequence[Command]) -> list[Job]:
        """Queue commands."""
        ...

    def stop(self) -> None:
        """Let jobs that depend on this process save and end, and cancel pending jobs."""
        ...


class Resources(NamedTuple):
    """CPU cores and environment variables of one process."""

    cores: set[int]  # empty on systems without CPU affinity
    environment: dict[str, str]


class LocalLauncher:
    """Launcher of processes on this machine, each with its own cores and GPUs."""

    def __init__(self, parallel: int):
        self._resources: queue.SimpleQueue[Resources] = queue.SimpleQueue()
        for resources in partition_resources(parallel):
            self._resources.put(resources)
        self._thread = threading.local()
        self._pool = ThreadPoolExecutor(parallel, initializer=self._acquire_resources)
        self._lock = threading.Lock()
        self._processes: list[subprocess.Popen] = []
        self._stopping = False

    def _acquire_resources(self) -> None:
        resources = self._resources.get()
        self._thread.environment = resources.environment
        if resources.cores:
            # The affinity applies to this thread and its child processes. XLA starts as
            # many threads as its process has cores.
            os.sched_setaffinity(0, resources.cores)

    def submit(self, commands: Sequence[Command]) -> list[Job]:
        return [self._pool.submit(self._run, command) for command in commands]

    def _run(self, command: Command) -> int:
        with command.log.open("ab") as file, self._lock:
            process = subprocess.Popen(
                command.argv,
                env=os.environ | self._thread.environment,
                stdin=subprocess.DEVNULL,
                stdout=file,
                stderr=subprocess.STDOUT,
                start_new_session=True,  # Ctrl-C reaches only the launcher, which sends SIGTERM
            )
            self._processes.append(process)
            if self._stopping:
                process.terminate()
        return process.wait()

    def stop(self) -> None:
        with self._lock:
            self._stopping = True
            for process in self._processes:
                process.terminate()  # has no effect on a process that has ended
        try:
            self._pool.shutdown(cancel_futures=True)
        except BaseException:  # a second Ctrl-C
            for process in self._processes:
                process.kill()
            raise


def partition_resources(parallel: int) -> list[Resources]:
    """Partition cores and GPUs over parallel processes, which share them if there are too few."""
    cores = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_setaffinity") else []
    gpus = visible_gpus()
    # Processes that share a GPU must not each preallocate its memory.
    memory = {} if len(gpus) >= parallel else {"XLA_PYTHON_CLIENT_PREALLOCATE": "false"}
    return [
        Resources(
            set(_partition(cores, i, parallel)),
            {"CUDA_VISIBLE_DEVICES": ",".join(_partition(gpus, i, parallel)), **memory}
            if gpus
            else {},
        )
        for i in range(parallel)
    ]


def visible_gpus() -> list[str]:
    """Return the CUDA identifiers of the GPUs this process may use, without initializing CUDA."""
    if os.environ.get("JAX_PLATFORMS") == "cpu":
        return []
    if (visible := os.environ.get("CUDA_VISIBLE_DEVICES")) is not None:
        # CUDA ignores an invalid identifier, such as -1, and all that follow it.
        gpus = [gpu.strip() for gpu in visible.split(",")]
        return list(itertools.takewhile(lambda gpu: re.match(r"[0-9]|GPU-|MIG-", gpu), gpus))
    if shutil.which("nvidia-smi") is None:
        return []
    command = ["nvidia-smi", "--query-gpu=index", "--format=csv,noheader"]
    listing = subprocess.run(command, capture_output=True, text=True)
    return listing.stdout.split() if listing.returncode == 0 else []


def _partition(items: Sequence, i: int, parts: int) -> Sequence:
    """Return the i-th of `parts` contiguous parts, or one shared item if there are too few."""
    if not items:
        return items
    if len(items) < parts:
        return [items[i % len(items)]]
    return items[i * len(items) // parts : (i + 1) * len(items) // parts]
