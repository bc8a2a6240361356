"""Sweeps on a real Slurm; see CONTRIBUTING.md. Without one running, these tests skip."""

import contextlib
import json
import os
import signal
import subprocess
import sys
import time

import pytest

from tests.training.runs import ROOT
from training import metric_writer, slurm

FILE = """
from functools import partial
from training.plots import bars
from training.sweeps import Run

METRICS = ("test/error", "dev/error")
figure = partial(bars, metrics=METRICS)

def runs():
    for width in {widths}:
        change = {{"model.width": width}}
        yield Run(config="tests/toy.py", labels={{"width": width}}, overrides=change)
"""
SETTINGS = ("--launcher=slurm", "--slurm.gpus=0", "--slurm.cpus=1", "--slurm.hours=0.25")


def there_is_slurm():
    try:
        return not subprocess.run(["sinfo"], capture_output=True, timeout=10).returncode
    except (OSError, subprocess.TimeoutExpired):
        return False


pytestmark = [
    pytest.mark.slurm,
    pytest.mark.skipif(not there_is_slurm(), reason="no Slurm is running here"),
]


class Sweep:
    """A sweep of the toy by width, in a folder of its own."""

    def __init__(self, folder, widths, *changes):
        folder.mkdir(exist_ok=True)
        (folder / "widths.py").write_text(FILE.format(widths=widths))
        self.folder, self.workdir, self.changes = folder, folder / "runs", changes
        self.processes = []

    def start(self, *flags):
        command = [sys.executable, "sweep.py", f"--sweep={self.folder}/widths.py", *self.changes]
        self.processes.append(
            subprocess.Popen(
                [*command, f"--workdir={self.workdir}", *flags],
                cwd=ROOT,
                env=os.environ | {"JAX_PLATFORMS": "cpu"},
                text=True,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
            )
        )
        return self.processes[-1]

    def end(self):
        """Leaves nothing behind, whatever went wrong."""
        for process in self.processes:
            process.kill()
            process.communicate()
        if (self.workdir / slurm.JOBS).exists():
            jobs = json.loads((self.workdir / slurm.JOBS).read_text()).values()
            subprocess.run(["scancel", *jobs], check=True)

    def run(self, *flags):
        process = self.start(*flags)
        output, errors = process.communicate(timeout=900)
        return process.returncode, output, errors

    def job(self, width):
        return json.loads((self.workdir / slurm.JOBS).read_text())[str(width)]

    def lines(self, width):
        return metric_writer.read(str(self.workdir / str(width)))

    def table(self):
        """Without the time, which is no run's own."""
        rows = (self.workdir / "table.md").read_text().splitlines()
        return [row.rsplit("|", 2)[0] for row in rows]


@pytest.fixture
def make_sweep(tmp_path):
    with contextlib.ExitStack() as stack:

        def make(widths, *changes, folder="slurm"):
            sweep = Sweep(tmp_path / folder, widths, *changes)
            stack.callback(sweep.end)
            return sweep

        yield make


def wait_for(condition, seconds=300):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it does not get there"
        time.sleep(0.2)


def test_six_runs_two_of_them_killed_and_queued_again_equal_local_ones(make_sweep):
    """One as by a failing node, the other as at the end of its time."""
    widths, changes = (
        (4, 8, 12, 16, 24, 32),
        ("--config.train.steps=100", "--config.data.sleep=0.1"),
    )
    ours = make_sweep(widths, *changes)
    process = ours.start(*SETTINGS)
    wait_for(lambda: (ours.workdir / slurm.JOBS).exists() and ours.lines(4) and ours.lines(8))
    subprocess.run(["scontrol", "requeue", ours.job(4)], check=True)
    subprocess.run(["scancel", "--signal=USR2", ours.job(8)], check=True)
    output, errors = process.communicate(timeout=900)
    assert process.returncode == 0, errors
    arrays = {ours.job(width).split("_")[0] for width in widths}
    assert len(arrays) == 1, "one array job"
    for width in widths:
        log = (ours.workdir / str(width) / "log.txt").read_text()
        assert ("resuming from" in log) == (width in (4, 8)) and "Finished" in log
    theirs = make_sweep(widths, *changes, folder="local")
    assert theirs.run("--parallel=2")[0] == 0
    assert ours.table() == theirs.table()
    assert "| width | test/error | dev/error | runs | steps | time |" in output


def test_a_sweep_is_left_and_come_back_to_and_ended(make_sweep):
    sweep = make_sweep((4, 8), "--config.train.steps=5000", "--config.data.sleep=0.1")
    process = sweep.start(*SETTINGS)
    wait_for(lambda: (sweep.workdir / slurm.JOBS).exists() and sweep.lines(4) and sweep.lines(8))
    process.send_signal(signal.SIGINT)
    assert "the same command goes on" in process.communicate()[1]
    jobs = sweep.job(4), sweep.job(8)
    code, output, _ = sweep.run("--status")
    assert code == 0
    assert [line.split(" step")[0] for line in output.splitlines()] == ["4: running", "8: running"]

    process = sweep.start(*SETTINGS)  # comes back to the same jobs
    assert process.stdout.readline().startswith("4: running")
    assert (sweep.job(4), sweep.job(8)) == jobs
    assert sweep.run("--cancel")[1].startswith("2 jobs are asked to save and end")
    output, errors = process.communicate(timeout=300)
    assert process.returncode == 1 and "2 of 2 runs failed; the same command tries" in output
    for width in (4, 8):
        assert "Stopped at step" in (sweep.workdir / str(width) / "log.txt").read_text()
        assert any((sweep.workdir / str(width) / "checkpoints").iterdir())
    assert "failed, as" in errors


def test_a_run_on_two_nodes_is_one_run(make_sweep):
    sweep = make_sweep((8,))
    code, _, errors = sweep.run(*SETTINGS, "--slurm.nodes=2")
    assert code == 0, errors
    summary = json.loads((sweep.workdir / "8" / "summary.json").read_text())
    assert summary["device"].startswith("2 hosts, ") and summary["steps"] == 40
    assert (sweep.workdir / "8" / "log.txt").read_text().count("Finished") == 1


def test_what_slurm_refuses_is_a_sentence(make_sweep):
    sweep = make_sweep((8,))
    code, _, errors = sweep.run(*SETTINGS, "--slurm.partition=nowhere")
    assert code == 2 and errors.startswith("error: Slurm does not take the jobs: ")
    assert errors.count("\n") == 1
