"""Tests of sweeps on Slurm; see CONTRIBUTING.md. They are skipped unless Slurm is running."""

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

SWEEP_FILE = """
from functools import partial
from training.plots import metric_bars
from training.sweeps import Run

METRICS = ("test/error", "dev/error")
figure = partial(metric_bars, metrics=METRICS)

def runs():
    for width in {widths}:
        overrides = {{"model.width": width}}
        yield Run(config="tests/toy.py", labels={{"width": width}}, overrides=overrides)
"""
SLURM_FLAGS = ("--launcher=slurm", "--slurm.gpus=0", "--slurm.cpus=1", "--slurm.hours=0.25")


def slurm_is_running():
    try:
        return not subprocess.run(["sinfo"], capture_output=True, timeout=10).returncode
    except (OSError, subprocess.TimeoutExpired):
        return False


pytestmark = [
    pytest.mark.slurm,
    pytest.mark.skipif(not slurm_is_running(), reason="Slurm is not running"),
]


class ToySweep:
    """Sweep of the toy task over its width."""

    def __init__(self, folder, widths, *overrides):
        folder.mkdir(exist_ok=True)
        (folder / "widths.py").write_text(SWEEP_FILE.format(widths=widths))
        self.folder, self.workdir, self.overrides = folder, folder / "runs", overrides
        self.processes = []

    def start(self, *flags):
        command = [sys.executable, "sweep.py", f"--sweep={self.folder}/widths.py", *self.overrides]
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

    def close(self):
        """Kill all processes and cancel all jobs."""
        for process in self.processes:
            process.kill()
            process.communicate()
        if self.jobs_file.exists():
            jobs = json.loads(self.jobs_file.read_text()).values()
            subprocess.run(["scancel", *jobs], check=True)

    def run(self, *flags):
        process = self.start(*flags)
        output, errors = process.communicate(timeout=900)
        return process.returncode, output, errors

    @property
    def jobs_file(self):
        return self.workdir / slurm.JOBS_FILE

    def job_id(self, width):
        return json.loads(self.jobs_file.read_text())[str(width)]

    def log(self, width):
        return (self.workdir / str(width) / "log.txt").read_text()

    def metrics(self, width):
        return metric_writer.read(str(self.workdir / str(width)))

    def wait_until_running(self):
        """Wait until the runs of widths 4 and 8 have logged metrics."""
        end = time.monotonic() + 300
        while not (self.jobs_file.exists() and self.metrics(4) and self.metrics(8)):
            assert time.monotonic() < end, "the jobs did not start within 300 s"
            time.sleep(0.2)

    def table(self):
        """Return the rows of the table without their time."""
        rows = (self.workdir / "table.md").read_text().splitlines()
        return [row.rsplit("|", 2)[0] for row in rows]


@pytest.fixture
def make_sweep(tmp_path):
    with contextlib.ExitStack() as stack:

        def make(widths, *overrides, folder="slurm"):
            sweep = ToySweep(tmp_path / folder, widths, *overrides)
            stack.callback(sweep.close)
            return sweep

        yield make


def test_requeued_runs_equal_local_runs(make_sweep):
    """Run 4 is requeued as after a node failure; run 8 receives the signal of the time limit."""
    widths = (4, 8, 12, 16, 24, 32)
    overrides = ("--config.train.steps=100", "--config.data.sleep=0.1")
    sweep = make_sweep(widths, *overrides)
    process = sweep.start(*SLURM_FLAGS)
    sweep.wait_until_running()
    subprocess.run(["scontrol", "requeue", sweep.job_id(4)], check=True)
    subprocess.run(["scancel", "--signal=USR2", sweep.job_id(8)], check=True)
    output, errors = process.communicate(timeout=900)
    assert process.returncode == 0, errors
    assert len({sweep.job_id(width).split("_")[0] for width in widths}) == 1, "one array job"
    for width in widths:
        assert ("resuming from" in sweep.log(width)) == (width in (4, 8))
        assert "Finished" in sweep.log(width)
    local = make_sweep(widths, *overrides, folder="local")
    assert local.run("--parallel=2")[0] == 0
    assert sweep.table() == local.table()
    assert "| width | test/error | dev/error | runs | steps | total time |" in output


def test_restarted_sweep_finds_and_cancels_its_jobs(make_sweep):
    sweep = make_sweep((4, 8), "--config.train.steps=5000", "--config.data.sleep=0.1")
    process = sweep.start(*SLURM_FLAGS)
    sweep.wait_until_running()
    process.send_signal(signal.SIGINT)
    assert "run the same command again" in process.communicate()[1]
    job_ids = sweep.job_id(4), sweep.job_id(8)
    code, output, _ = sweep.run("--status")
    assert code == 0
    assert [line.split(" step")[0] for line in output.splitlines()] == ["4: running", "8: running"]

    process = sweep.start(*SLURM_FLAGS)
    assert process.stdout.readline().startswith("4: running")
    assert (sweep.job_id(4), sweep.job_id(8)) == job_ids
    assert sweep.run("--cancel")[1].startswith("Canceled 2 jobs")
    output, errors = process.communicate(timeout=300)
    assert process.returncode == 1 and "2 of 2 runs failed" in output
    assert "Run 4 failed; see" in errors
    for width in (4, 8):
        assert "Stopped at step" in sweep.log(width)
        assert any((sweep.workdir / str(width) / "checkpoints").iterdir())


def test_two_nodes_train_one_run(make_sweep):
    sweep = make_sweep((8,))
    code, _, errors = sweep.run(*SLURM_FLAGS, "--slurm.nodes=2")
    assert code == 0, errors
    summary = json.loads((sweep.workdir / "8" / "summary.json").read_text())
    assert summary["device"].startswith("2 hosts, ") and summary["steps"] == 40
    assert sweep.log(8).count("Finished") == 1


def test_rejected_job_exits_with_one_error_line(make_sweep):
    sweep = make_sweep((8,))
    code, _, errors = sweep.run(*SLURM_FLAGS, "--slurm.partition=nowhere")
    assert code == 2 and errors.startswith("error: Slurm rejected the jobs: ")
    assert errors.count("\n") == 1
