"""Launcher that submits the runs of a sweep to Slurm as one array job, using submitit.

Jobs outlive this process: their ids are stored in the sweep's directory, so that a later call finds
them again. A job that is preempted, loses its node or reaches its time limit is requeued and
resumes from its last checkpoint.
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

JOBS_FILE = "slurm.json"  # in the sweep's directory: job ids by run name
TERMINAL_STATES = {
    "COMPLETED",
    "FAILED",
    "CANCELLED",
    "TIMEOUT",
    "NODE_FAIL",
    "OUT_OF_MEMORY",
    "DEADLINE",
}
CACHE_SECONDS = 3.0  # time between two queries of the queue
MAX_TIMEOUTS = 1000  # requeues of a run that reached its time limit


class SlurmLauncher:
    """Launcher that submits runs, and finds the jobs of runs submitted earlier.

    Args:
        workdir: directory of the sweep, on a file system that all nodes share.
        settings: config with the keys of `configs/launchers/slurm.py`.

    Raises:
        UserError: if Slurm is not installed, or the file of job ids is damaged.
    """

    def __init__(self, workdir: Path, settings: Any):
        if shutil.which("sbatch") is None:
            raise UserError("Slurm is not available on this machine: sbatch was not found.")
        self._workdir, self._settings = workdir.resolve(), settings
        self._queue = Queue()
        path = workdir / JOBS_FILE
        self._job_ids: dict[str, str] = run.read_json(path) if path.exists() else {}

    def submit(self, commands: Sequence[Command]) -> list[Job]:
        """Submit an array job of all commands without an active job."""
        new = [command for command in commands if not self._is_active(command.name)]
        if new:
            executor = Executor(self._workdir / "slurm", self._settings)
            job_ids = executor.submit_batch(new, self._settings.nodes)
            self._job_ids |= {x.name: job_id for x, job_id in zip(new, job_ids, strict=True)}
            run.write_json(self._workdir / JOBS_FILE, self._job_ids)
            self._queue.invalidate()
        return [self._job(command.name) for command in commands]

    def jobs(self) -> dict[str, Job]:
        """Return all submitted jobs by run name."""
        return {name: self._job(name) for name in self._job_ids}

    def cancel(self) -> int:
        """Cancel all active jobs, which save a checkpoint first; return the number of jobs."""
        job_ids = [job_id for name, job_id in self._job_ids.items() if self._is_active(name)]
        if job_ids:
            run_command("scancel", *job_ids)
        return len(job_ids)

    def stop(self) -> None:
        """Do nothing: jobs do not depend on this process."""

    def _is_active(self, name: str) -> bool:
        return name in self._job_ids and not self._job(name).done()

    def _job(self, name: str) -> "SlurmJob":
        return SlurmJob(self._job_ids[name], self._workdir / "slurm", self._queue)


class Executor:
    """submitit executor with the settings of a sweep."""

    def __init__(self, folder: Path, settings: Any):
        import submitit  # imported lazily, as only Slurm users need it

        self._submitit = submitit.SlurmExecutor(folder, max_num_timeout=MAX_TIMEOUTS)
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
                array_parallelism=settings.max_parallel,
                signal_delay_s=settings.grace_seconds,
                stderr_to_stdout=True,
                additional_parameters={
                    "requeue": True,
                    "open-mode": "append",
                    **settings.options,
                },
                **{name: value for name, value in options.items() if value},
            )
        except ValueError as error:
            raise UserError(f"Invalid Slurm settings: {str(error).splitlines()[0]}") from error

    def submit_batch(self, commands: Sequence[Command], nodes: int) -> list[str]:
        """Submit one array job and return the id of each command's job, such as '12_0'.

        Raises:
            UserError: if Slurm rejects the job.
        """
        import submitit

        flags = ["--distributed"] * (nodes > 1)
        try:
            # submitit prints the error message that is raised below.
            with contextlib.redirect_stderr(io.StringIO()), self._submitit.batch():
                jobs = [
                    self._submitit.submit(ResumableCommand([*x.argv, *flags], x.log.resolve()))
                    for x in commands
                ]
        except submitit.core.utils.FailedJobError as error:
            raise UserError(f"Slurm rejected the jobs: {_last_line(error)}") from error
        return [job.job_id for job in jobs]


class ResumableCommand:
    """Callable that runs a command in a job; the command resumes when it runs again."""

    def __init__(self, argv: Sequence[str], log: Path):
        self.argv, self.log, self.pid = list(argv), log, 0

    def __call__(self) -> int:
        """Run the command and return its exit code."""
        with self.log.open("ab") as file:
            process = subprocess.Popen(
                self.argv,
                stdin=subprocess.DEVNULL,
                stdout=file,
                stderr=subprocess.STDOUT,
                # Slurm sends SIGUSR2 to all processes of a job; only `checkpoint` handles it.
                preexec_fn=lambda: signal.signal(signal.SIGUSR2, signal.SIG_IGN),
            )
        self.pid = process.pid
        while (code := process.poll()) is None:
            time.sleep(0.2)
        while code in (128 + signal.SIGTERM, -signal.SIGTERM):
            # Slurm sent SIGTERM and is about to end this job. It requeues the job only if the job
            # has not ended by itself, so the job waits for SIGKILL.
            time.sleep(1)
        return code

    def checkpoint(self) -> Any:
        """Stop the command, which saves first, and requeue it; called at the time limit."""
        import submitit

        os.kill(self.pid, signal.SIGTERM)
        os.waitid(os.P_PID, self.pid, os.WEXITED | os.WNOWAIT)
        return submitit.helpers.DelayedSubmission(ResumableCommand(self.argv, self.log))


class Queue:
    """States of the user's jobs, cached for `CACHE_SECONDS`."""

    def __init__(self):
        self._states: dict[str, str] = {}
        self._query_time = -CACHE_SECONDS

    def invalidate(self) -> None:
        """Discard the cached states."""
        self._query_time = -CACHE_SECONDS

    def state(self, job_id: str) -> str:
        """Return 'PENDING', 'RUNNING', ...; 'COMPLETED' for jobs no longer in the queue."""
        if time.monotonic() - self._query_time > CACHE_SECONDS:
            flags = ("--noheader", "--array", "--states=all", "--format=%i %T")
            lines = run_command("squeue", f"--user={getpass.getuser()}", *flags).splitlines()
            self._states = dict(line.split() for line in lines)
            self._query_time = time.monotonic()
        return self._states.get(job_id, "COMPLETED")


class SlurmJob:
    """Job of the array; implements `training.launchers.Job`."""

    def __init__(self, job_id: str, folder: Path, queue: Queue):
        self._job_id, self._folder, self._queue = job_id, folder, queue

    def running(self) -> bool:
        return self._queue.state(self._job_id) in ("RUNNING", "COMPLETING")

    def done(self) -> bool:
        return self._queue.state(self._job_id) in TERMINAL_STATES

    def result(self) -> int:
        """Return the command's exit code, or the code of SIGKILL if there is no result file."""
        path = self._folder / f"{self._job_id}_0_result.pkl"
        if not path.exists():
            return 128 + signal.SIGKILL
        outcome, code = pickle.loads(path.read_bytes())
        return code if outcome == "success" else 1


def run_command(*command: str) -> str:
    """Run a Slurm command and return its output.

    Raises:
        UserError: if it fails.
    """
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        raise UserError(f"{command[0]} failed: {_last_line(done.stderr)}")
    return done.stdout


def _last_line(error: Any) -> str:
    lines = [line for line in str(error).splitlines() if line.strip()]
    return lines[-1].strip() if lines else type(error).__name__
