"""Where the runs of a sweep run."""

import os
import queue
import shutil
import subprocess
import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple, Protocol, runtime_checkable


@runtime_checkable
class Job(Protocol):
    """A command that was submitted; `concurrent.futures.Future` is one."""

    def running(self) -> bool:
        """Whether it is under way: not waiting, not done."""
        ...

    def done(self) -> bool:
        """Whether it has ended."""
        ...

    def result(self) -> int:
        """Its exit code, once it is done."""
        ...


class Command(NamedTuple):
    """What is to be run, under which name; its output is appended to `log`."""

    name: str
    argv: Sequence[str]
    log: Path


@runtime_checkable
class Launcher(Protocol):
    """Runs commands somewhere, a number of them at once."""

    def submit(self, commands: Sequence[Command]) -> list[Job]:
        """Queues commands."""
        ...

    def stop(self) -> None:
        """Lets what cannot go on without this process save and end, and forgets what waits."""
        ...


class Share(NamedTuple):
    """What one of the processes that run at once may use of the machine."""

    cores: set[int]  # none where the system cannot confine a process
    environment: dict[str, str]


class Local:
    """Processes of this machine, each with its share of the cores and of the GPUs."""

    def __init__(self, parallel: int):
        self._shares: queue.SimpleQueue[Share] = queue.SimpleQueue()
        for share in shares(parallel):
            self._shares.put(share)
        self._thread = threading.local()
        self._pool = ThreadPoolExecutor(parallel, initializer=self._take_share)
        self._lock = threading.Lock()
        self._processes: list[subprocess.Popen] = []
        self._stopping = False

    def _take_share(self) -> None:
        share = self._shares.get()
        self._thread.environment = share.environment
        if share.cores:
            # Of this thread alone, and of the processes that it starts. XLA has as many threads
            # as its process has cores.
            os.sched_setaffinity(0, share.cores)

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
                start_new_session=True,  # Ctrl-C is for us, who ask it to stop, and once
            )
            self._processes.append(process)
            if self._stopping:
                process.terminate()
        return process.wait()

    def stop(self) -> None:
        with self._lock:
            self._stopping = True
            for process in self._processes:
                process.terminate()  # which does nothing to one that has ended
        try:
            self._pool.shutdown(cancel_futures=True)
        except BaseException:  # a second Ctrl-C
            for process in self._processes:
                process.kill()
            raise


def shares(parallel: int) -> list[Share]:
    """Cuts the machine into parts: whole cores and GPUs, shared only if there are too few."""
    cores = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_setaffinity") else []
    gpus = visible_gpus()
    alone = {} if len(gpus) >= parallel else {"XLA_PYTHON_CLIENT_PREALLOCATE": "false"}
    return [
        Share(
            set(_part(cores, i, parallel)),
            {"CUDA_VISIBLE_DEVICES": ",".join(_part(gpus, i, parallel)), **alone} if gpus else {},
        )
        for i in range(parallel)
    ]


def visible_gpus() -> list[str]:
    """Names by which CUDA knows the GPUs that a process may use; asked without starting CUDA."""
    if os.environ.get("JAX_PLATFORMS") == "cpu":
        return []
    if (named := os.environ.get("CUDA_VISIBLE_DEVICES")) is not None:
        return [name for name in named.split(",") if name]
    if shutil.which("nvidia-smi") is None:
        return []
    command = ["nvidia-smi", "--query-gpu=index", "--format=csv,noheader"]
    listed = subprocess.run(command, capture_output=True, text=True)
    return listed.stdout.split() if listed.returncode == 0 else []


def _part(things: Sequence, i: int, parts: int) -> Sequence:
    """The i-th of so many parts in order; one thing, which others have too, if there are fewer."""
    if not things:
        return things
    if len(things) < parts:
        return [things[i % len(things)]]
    return things[i * len(things) // parts : (i + 1) * len(things) // parts]
