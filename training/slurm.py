"""The runs of a sweep as one array job of Slurm, by submitit.

Jobs live without us: a sweep may be left and come back to, for their numbers are kept in its
folder. A job that Slurm preempts, or whose node fails, or whose time is over, is queued again and
goes on from its last checkpoint.
"""

import contextlib
import getpass
import io
import os
import pickle
import shutil
import signal
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from training import run
from training.errors import UserError
from training.launchers import Command, Job

JOBS = "slurm.json"  # in the sweep's folder: the job of each run
OVER = {"COMPLETED", "FAILED", "CANCELLED", "TIMEOUT", "NODE_FAIL", "OUT_OF_MEMORY", "DEADLINE"}
LAST = 3.0  # seconds for which an answer of Slurm's is not asked for again
TIMEOUTS = 1000  # so often a run may be queued again because its time was over


class Slurm:
    """Submits runs, and finds those again that it has submitted before.

    Args:
        folder: of the sweep; where all nodes see it.
        settings: as `configs/launchers/slurm.py` has them.

    Raises:
        UserError: if there is no Slurm, or the folder's record of jobs is damaged.
    """

    def __init__(self, folder: Path, settings: Any):
        if shutil.which("sbatch") is None:
            raise UserError("There is no Slurm on this machine: it has no sbatch.")
        self._folder, self._settings = folder.resolve(), settings
        self._queue = Queue()
        path = folder / JOBS
        self._numbers: dict[str, str] = run.read_json(path) if path.exists() else {}

    def submit(self, commands: Sequence[Command]) -> list[Job]:
        """One array job of all that are not in the queue yet."""
        new = [command for command in commands if not self._waits(command.name)]
        if new:
            jobs = self._executor().submit_batch(new, self._settings.nodes)
            self._numbers |= {one.name: job for one, job in zip(new, jobs, strict=True)}
            run.write_json(self._folder / JOBS, self._numbers)
            self._queue.forget()
        return [self._job(command.name) for command in commands]

    def known(self) -> dict[str, Job]:
        """The jobs submitted so far, by run."""
        return {name: self._job(name) for name in self._numbers}

    def cancel(self) -> int:
        """Asks all jobs to save and end; returns how many they are."""
        numbers = [number for name, number in self._numbers.items() if self._waits(name)]
        if numbers:
            ask("scancel", *numbers)
        return len(numbers)

    def stop(self) -> None:
        """Leaves the jobs alone: they need nobody here."""

    def _waits(self, name: str) -> bool:
        return name in self._numbers and not self._job(name).done()

    def _job(self, name: str) -> "SlurmJob":
        return SlurmJob(self._numbers[name], self._folder / "slurm", self._queue)

    def _executor(self) -> "Executor":
        return Executor(self._folder / "slurm", self._settings)


class Executor:
    """submitit, with our settings."""

    def __init__(self, folder: Path, settings: Any):
        import submitit  # here: those who have no Slurm need not wait for it

        self._submitit = submitit.SlurmExecutor(folder, max_num_timeout=TIMEOUTS)
        options = {
            "partition": settings.partition,
            "mem": settings.memory,
            "gpus_per_node": settings.gpus,
            "setup": list(settings.setup),
        }
        try:
            self._submitit.update_parameters(
                job_name=folder.parent.name,
                time=max(1, round(60 * settings.hours)),
                nodes=settings.nodes,
                ntasks_per_node=1,
                cpus_per_task=settings.cpus,
                array_parallelism=settings.at_once,
                signal_delay_s=settings.grace,
                stderr_to_stdout=True,
                additional_parameters={"requeue": True, "open-mode": "append", **settings.more},
                **{name: value for name, value in options.items() if value},
            )
        except ValueError as error:
            raise UserError(
                f"Slurm's settings are no good: {str(error).splitlines()[0]}"
            ) from error

    def submit_batch(self, commands: Sequence[Command], nodes: int) -> list[str]:
        """Numbers of the jobs, those of an array as '12_0'.

        Raises:
            UserError: if Slurm does not take them.
        """
        import submitit

        more = ["--distributed"] * (nodes > 1)
        try:
            # Or it would print what goes into the sentence below.
            with contextlib.redirect_stderr(io.StringIO()), self._submitit.batch():
                jobs = [
                    self._submitit.submit(Resumable([*one.argv, *more], one.log.resolve()))
                    for one in commands
                ]
        except submitit.core.utils.FailedJobError as error:
            raise UserError(f"Slurm does not take the jobs: {_last_line(error)}") from error
        return [job.job_id for job in jobs]


class Resumable:
    """What a job does: the command, which resumes by itself if it is run again."""

    def __init__(self, argv: Sequence[str], log: Path):
        self.argv, self.log, self.pid = list(argv), log, 0

    def __call__(self) -> int:
        """Runs it and returns its exit code."""
        with self.log.open("ab") as file:
            process = subprocess.Popen(
                self.argv,
                stdin=subprocess.DEVNULL,
                stdout=file,
                stderr=subprocess.STDOUT,
                # Slurm sends this to all of a job's processes; `checkpoint` is who answers.
                preexec_fn=lambda: signal.signal(signal.SIGUSR2, signal.SIG_IGN),
            )
        self.pid = process.pid
        while (code := process.poll()) is None:
            time.sleep(0.2)
        while code in (128 + signal.SIGTERM, -signal.SIGTERM):  # saved, or before it could
            # Slurm has asked it to end. If it wants it again, that is for Slurm to say, which it
            # would not of a job that has ended by itself: it is about to end this one.
            time.sleep(1)
        return code

    def checkpoint(self) -> Any:
        """Called by submitit when the job's time is almost over: saves, to be queued again."""
        import submitit

        os.kill(self.pid, signal.SIGTERM)
        os.waitid(os.P_PID, self.pid, os.WEXITED | os.WNOWAIT)
        return submitit.helpers.DelayedSubmission(Resumable(self.argv, self.log))


class Queue:
    """What Slurm says of our jobs, asked now and then."""

    def __init__(self):
        self._states: dict[str, str] = {}
        self._asked = -LAST

    def forget(self) -> None:
        """Makes the next question a new one."""
        self._asked = -LAST

    def state(self, number: str) -> str:
        """'PENDING', 'RUNNING', ...; 'COMPLETED' for what it knows no more."""
        if time.monotonic() - self._asked > LAST:
            flags = ("--noheader", "--array", "--states=all", "--format=%i %T")
            lines = ask("squeue", f"--user={getpass.getuser()}", *flags).splitlines()
            self._states = dict(line.split() for line in lines)
            self._asked = time.monotonic()
        return self._states.get(number, "COMPLETED")


class SlurmJob:
    """A job; see `training.launchers.Job`."""

    def __init__(self, number: str, folder: Path, queue: Queue):
        self._number, self._folder, self._queue = number, folder, queue

    def running(self) -> bool:
        return self._queue.state(self._number) in ("RUNNING", "COMPLETING")

    def done(self) -> bool:
        return self._queue.state(self._number) in OVER

    def result(self) -> int:
        """The command's exit code; that of SIGKILL for a job that could not tell."""
        path = self._folder / f"{self._number}_0_result.pkl"
        if not path.exists():
            return 128 + signal.SIGKILL
        outcome, code = pickle.loads(path.read_bytes())
        return code if outcome == "success" else 1


def ask(*command: str) -> str:
    """What a command of Slurm's answers.

    Raises:
        UserError: if it does not.
    """
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        raise UserError(f"Slurm does not answer: {_last_line(done.stderr)}")
    return done.stdout


def _last_line(error: Any) -> str:
    lines = [line for line in str(error).splitlines() if line.strip()]
    return lines[-1].strip() if lines else type(error).__name__
