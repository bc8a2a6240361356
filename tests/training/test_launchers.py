"""Tests of local launchers: resources, logs, exit codes and termination."""

import os
import sys
import time

import pytest

from training import launchers
from training.launchers import Command, LocalLauncher, partition_resources

SAVE_ON_TERM = "trap 'echo saved; exit 143' TERM; echo ready; while :; do sleep 0.02; done"


def wait_for_text(path, text, seconds=20):
    end = time.monotonic() + seconds
    while not (path.exists() and text in path.read_text()):
        assert time.monotonic() < end, f"'{text}' was not printed within {seconds} s"
        time.sleep(0.01)


def submit(launcher, log, *argv):
    (job,) = launcher.submit([Command(log.name, argv, log)])
    return job


@pytest.fixture
def no_gpus(monkeypatch):
    monkeypatch.setattr(launchers, "visible_gpus", list)


def test_exit_codes_are_returned_and_logs_are_appended(tmp_path, no_gpus):
    launcher = LocalLauncher(2)
    for _ in range(2):
        jobs = [
            submit(launcher, tmp_path / str(i), "sh", "-c", f"echo out; echo err >&2; exit {i}")
            for i in range(3)
        ]
        assert [job.result() for job in jobs] == [0, 1, 2]
    assert (tmp_path / "1").read_text() == "out\nerr\n" * 2
    launcher.stop()


@pytest.mark.skipif(not hasattr(os, "sched_getaffinity"), reason="no CPU affinity")
def test_parallel_processes_use_disjoint_cores(tmp_path, no_gpus):
    cores = os.sched_getaffinity(0)
    launcher = LocalLauncher(2)
    # The processes overlap in time, so that each runs in its own thread of the pool.
    command = "import os, time; print(*os.sched_getaffinity(0)); time.sleep(1)"
    jobs = [submit(launcher, tmp_path / str(i), sys.executable, "-c", command) for i in range(2)]
    assert [job.result() for job in jobs] == [0, 0]
    first, second = ({*map(int, (tmp_path / str(i)).read_text().split())} for i in range(2))
    assert first | second <= cores
    assert not first & second if len(cores) > 1 else first == second
    assert os.sched_getaffinity(0) == cores, "the affinity of the main thread is unchanged"
    launcher.stop()


@pytest.mark.parametrize(
    "cores, parallel, parts",
    [
        ({0, 1, 2, 3}, 2, [{0, 1}, {2, 3}]),
        ({0, 2, 5}, 2, [{0}, {2, 5}]),
        ({3, 4}, 3, [{3}, {4}, {3}]),
        ({7}, 1, [{7}]),
    ],
)
def test_cores_are_partitioned(cores, parallel, parts, no_gpus, monkeypatch):
    monkeypatch.setattr(launchers.os, "sched_setaffinity", None, raising=False)
    monkeypatch.setattr(launchers.os, "sched_getaffinity", lambda _: cores, raising=False)
    resources = partition_resources(parallel)
    assert [x.cores for x in resources] == parts
    assert all(x.environment == {} for x in resources)


@pytest.mark.parametrize(
    "gpus, parallel, visible, exclusive",
    [
        ("0,1,2,3", 4, ["0", "1", "2", "3"], True),
        ("4,5,6,7", 2, ["4,5", "6,7"], True),
        ("2", 1, ["2"], True),
        ("0,1", 3, ["0", "1", "0"], False),
    ],
)
def test_gpus_are_partitioned(gpus, parallel, visible, exclusive, monkeypatch):
    monkeypatch.setenv("JAX_PLATFORMS", "")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", gpus)
    environments = [x.environment for x in partition_resources(parallel)]
    assert [x["CUDA_VISIBLE_DEVICES"] for x in environments] == visible
    # Memory is preallocated only on GPUs that are not shared.
    assert all(("XLA_PYTHON_CLIENT_PREALLOCATE" in x) != exclusive for x in environments)


@pytest.mark.parametrize(
    "visible, gpus",
    [
        ("", []),
        ("-1", []),
        ("NoDevFiles", []),
        ("0, 2", ["0", "2"]),
        ("1,-1,0", ["1"]),
        ("GPU-8932f937,MIG-1b2c", ["GPU-8932f937", "MIG-1b2c"]),
    ],
)
def test_visible_gpus_end_at_the_first_invalid_identifier(visible, gpus, monkeypatch):
    monkeypatch.setenv("JAX_PLATFORMS", "")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    assert launchers.visible_gpus() == gpus


def test_cpu_run_has_no_gpus(monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0,1")
    monkeypatch.setenv("JAX_PLATFORMS", "cpu")
    assert launchers.visible_gpus() == []


def test_stop_terminates_running_jobs_and_cancels_pending_jobs(tmp_path, no_gpus):
    launcher = LocalLauncher(1)
    running = submit(launcher, tmp_path / "running", "sh", "-c", SAVE_ON_TERM)
    pending = submit(launcher, tmp_path / "pending", "sh", "-c", "echo started")
    wait_for_text(tmp_path / "running", "ready")
    assert running.running() and not pending.running()
    launcher.stop()
    assert running.result() == 143
    assert (tmp_path / "running").read_text() == "ready\nsaved\n"
    assert pending.done() and not (tmp_path / "pending").exists()


def test_second_interrupt_kills_running_jobs(tmp_path, no_gpus, monkeypatch):
    launcher = LocalLauncher(1)
    job = submit(launcher, tmp_path / "log", "sh", "-c", "trap '' TERM; echo ready; sleep 60")
    wait_for_text(tmp_path / "log", "ready")

    def interrupt(cancel_futures):
        raise KeyboardInterrupt

    monkeypatch.setattr(launcher._pool, "shutdown", interrupt)
    with pytest.raises(KeyboardInterrupt):
        launcher.stop()
    assert job.result(timeout=20) == -9
