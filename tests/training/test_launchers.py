"""Processes side by side: shares of the machine, logs, and an end that lets them save."""

import os
import sys
import time

import pytest

from training import launchers
from training.launchers import Command, Local, shares

SAVES_FIRST = "trap 'echo saved; exit 143' TERM; echo ready; while :; do sleep 0.02; done"


def wait_for(condition, seconds=20):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it does not get there"
        time.sleep(0.01)


def submit(launcher, log, *argv):
    (job,) = launcher.submit([Command(log.name, argv, log)])
    return job


@pytest.fixture
def no_gpus(monkeypatch):
    monkeypatch.setattr(launchers, "visible_gpus", list)


def test_exit_codes_and_logs_that_are_appended_to(tmp_path, no_gpus):
    launcher = Local(2)
    for _ in range(2):
        jobs = [
            submit(launcher, tmp_path / str(i), "sh", "-c", f"echo out; echo err >&2; exit {i}")
            for i in range(3)
        ]
        assert [job.result() for job in jobs] == [0, 1, 2]
    assert (tmp_path / "1").read_text() == "out\nerr\n" * 2
    launcher.stop()


@pytest.mark.skipif(not hasattr(os, "sched_getaffinity"), reason="no such thing here")
def test_each_process_has_cores_of_its_own(tmp_path, no_gpus, monkeypatch):
    cores = os.sched_getaffinity(0)
    launcher = Local(2)
    # Both at once, or one thread would serve them both.
    command = "import os, time; print(*os.sched_getaffinity(0)); time.sleep(1)"
    jobs = [submit(launcher, tmp_path / str(i), sys.executable, "-c", command) for i in range(2)]
    assert [job.result() for job in jobs] == [0, 0]
    one, other = ({*map(int, (tmp_path / str(i)).read_text().split())} for i in range(2))
    assert one | other <= cores and (not one & other if len(cores) > 1 else one == other)
    assert os.sched_getaffinity(0) == cores, "we were confined ourselves"
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
def test_cores_are_shared_out(cores, parallel, parts, no_gpus, monkeypatch):
    monkeypatch.setattr(launchers.os, "sched_setaffinity", None, raising=False)
    monkeypatch.setattr(launchers.os, "sched_getaffinity", lambda _: cores, raising=False)
    assert [share.cores for share in shares(parallel)] == parts
    assert all(share.environment == {} for share in shares(parallel))


@pytest.mark.parametrize(
    "gpus, parallel, visible, alone",
    [
        ("0,1,2,3", 4, ["0", "1", "2", "3"], True),
        ("4,5,6,7", 2, ["4,5", "6,7"], True),
        ("2", 1, ["2"], True),
        ("0,1", 3, ["0", "1", "0"], False),
    ],
)
def test_gpus_are_shared_out(gpus, parallel, visible, alone, monkeypatch):
    monkeypatch.setenv("JAX_PLATFORMS", "")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", gpus)
    environments = [share.environment for share in shares(parallel)]
    assert [x["CUDA_VISIBLE_DEVICES"] for x in environments] == visible
    # Processes that have one together must not each take its whole memory.
    assert all(("XLA_PYTHON_CLIENT_PREALLOCATE" in x) != alone for x in environments)


def test_a_run_on_cpus_takes_no_gpu(monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0,1")
    monkeypatch.setenv("JAX_PLATFORMS", "cpu")
    assert launchers.visible_gpus() == []


def test_stopping_lets_what_runs_save_and_forgets_what_waits(tmp_path, no_gpus):
    launcher = Local(1)
    running = submit(launcher, tmp_path / "one", "sh", "-c", SAVES_FIRST)
    waiting = submit(launcher, tmp_path / "two", "sh", "-c", "echo started")
    wait_for(lambda: (tmp_path / "one").exists() and "ready" in (tmp_path / "one").read_text())
    assert running.running() and not waiting.running()
    launcher.stop()
    assert running.result() == 143
    assert (tmp_path / "one").read_text() == "ready\nsaved\n"
    assert waiting.done() and not (tmp_path / "two").exists()


def test_who_is_impatient_ends_them_at_once(tmp_path, no_gpus, monkeypatch):
    launcher = Local(1)
    job = submit(launcher, tmp_path / "one", "sh", "-c", "trap '' TERM; echo ready; sleep 60")
    wait_for(lambda: (tmp_path / "one").exists() and "ready" in (tmp_path / "one").read_text())

    def interrupted(cancel_futures):
        raise KeyboardInterrupt

    monkeypatch.setattr(launcher._pool, "shutdown", interrupted)
    with pytest.raises(KeyboardInterrupt):
        launcher.stop()
    assert job.result(timeout=20) == -9
