"""Tests of the command line of `sweep.py`."""

import os
import re
import signal
import subprocess
import sys

import pytest

from tests.commands import run_in_process, run_in_subprocess
from tests.training.runs import ROOT, wait_for
from training import run

pytestmark = pytest.mark.filterwarnings("ignore:the load_module:DeprecationWarning")
HEADS = "--sweep=configs/sweeps/transformer_heads.py"
SWEEP_FILE = """
from functools import partial
from training.plots import metric_bars
from training.sweeps import Run

METRICS = ("test/error",)
figure = partial(metric_bars, metrics=METRICS)

def runs():
    for task in {tasks}:
        yield Run(
            config="tests/toy.py",
            labels={{"task": task}},
            overrides={{"task": task}},
            paper={{"test/error": 0.5}},
        )
"""


@pytest.fixture(autouse=True)
def repository_root(monkeypatch):
    monkeypatch.chdir(ROOT)


@pytest.mark.parametrize(
    "flags, message",
    [
        ((), "The sweep file is missing: add --sweep=configs/sweeps/NAME.py."),
        (("--sweep=nope.py",), "The sweep file nope.py does not exist."),
        (("--sweep=nope.py", "--parallel=0"), "parallel"),
        (("--sweep=nope.py", "--launcher=cloud"), "launcher"),
        (("--sweep=nope.py", "--config.seed", "4"), "write --config.key=value"),
        ((HEADS, "--config.model.haeds=2"), "no key 'model.haeds'. Did you mean 'model.heads'?"),
        ((HEADS, "--slurm.partiton=gpu"), "no key 'partiton'. Did you mean 'partition'?"),
        ((HEADS, "--slurm.hours=-1"), "hours must be at least 0, not -1."),
        ((HEADS, "--slurm=nope.py"), "nope.py"),
        ((HEADS, "--workdir=README.md/runs"), "Cannot write to README.md/runs: "),
    ],
)
def test_invalid_command_exits_with_one_error_line(flags, message, tmp_path):
    result = run_in_process("sweep.py", f"--workdir={tmp_path}", *flags)
    assert (result.code, result.output) == (2, "")
    assert result.errors.startswith("error: ") and message in result.errors
    assert result.errors.count("\n") == 1 and not any(tmp_path.iterdir())


def test_files_are_found_from_another_directory(tmp_path):
    command = (f"{ROOT}/sweep.py", f"--sweep={ROOT}/configs/sweeps/transformer_heads.py")
    result = run_in_process(*command, "--config.model.haeds=2", cwd=tmp_path)
    assert result.errors == (
        "error: Run '1': --config has no key 'model.haeds'. Did you mean 'model.heads'?\n"
    )


def test_command_trains_and_reports_with_a_failed_run(tmp_path, monkeypatch):
    monkeypatch.setenv("JAX_PLATFORMS", "cpu")
    monkeypatch.setenv("JAX_DISABLE_MOST_OPTIMIZATIONS", "1")
    file = tmp_path / "tasks.py"
    file.write_text(SWEEP_FILE.format(tasks=("tests.toy", "tests.missing")))
    result = run_in_process(
        "sweep.py",
        f"--sweep={file}",
        f"--workdir={tmp_path}/runs",
        "--parallel=2",
        "--config.train.steps=10",
    )
    assert result.code == 1
    assert "Run tests.missing failed; see" in result.errors
    assert "error: " in result.errors and "Traceback" not in result.errors
    assert "1 of 2 runs failed; run the same command again to retry them." in result.output
    row = r"^\| tests\.toy \| \d\.\d+ \| 0\.5 \| 1 \| 10 \| \d+:\d\d \|$"
    assert re.search(row, result.output, re.M)
    assert (tmp_path / "runs/figure.png").stat().st_size > 1000
    runs = tmp_path / "runs"
    finished = [(runs / task / "summary.json").exists() for task in ("tests.toy", "tests.missing")]
    assert finished == [True, False]


def test_directory_is_locked_against_a_second_sweep(tmp_path):
    file, workdir = tmp_path / "tasks.py", tmp_path / "runs"
    file.write_text(SWEEP_FILE.format(tasks=("tests.missing",)))
    with run.lock_workdir(str(workdir)):
        result = run_in_process("sweep.py", f"--sweep={file}", f"--workdir={workdir}")
    assert result.code == 2 and f"Another process is training in {workdir}" in result.errors


@pytest.mark.slow
def test_ctrl_c_saves_and_the_same_command_resumes(tmp_path):
    (tmp_path / "tasks.py").write_text(SWEEP_FILE.format(tasks=("tests.toy",)))
    command = [
        "sweep.py",
        f"--sweep={tmp_path}/tasks.py",
        f"--workdir={tmp_path}/runs",
        "--config.train.steps=300",
        "--config.data.sleep=0.05",
    ]
    process = subprocess.Popen(
        [sys.executable, *command],
        env=os.environ | {"JAX_PLATFORMS": "cpu"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    metrics, log = (tmp_path / "runs/tests.toy" / name for name in ("metrics.jsonl", "log.txt"))
    wait_for(lambda: metrics.exists() and metrics.read_text().count("\n") > 1, process, seconds=300)
    process.send_signal(signal.SIGINT)
    assert process.communicate(timeout=300) == (
        "tests.toy: running\n",
        "Stopped with 0 of 1 runs finished; run the same command again to resume.\n",
    )
    assert process.returncode == 130
    step = re.search(r"Stopped at step (\d+) of 300 and saved", log.read_text())[1]
    result = run_in_subprocess(*command)
    assert result.code == 0 and "tests.toy: finished in" in result.output
    assert f"300, resuming from {step}" in log.read_text()
