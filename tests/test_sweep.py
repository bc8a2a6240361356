"""Tests of sweeps: validation, execution, reports, figures and the command line."""

import csv
import json
import os
import re
import signal
import subprocess
import sys
from concurrent.futures import Future
from pathlib import Path

import jax
import pytest

from tests.commands import run_in_process, run_in_subprocess, write_pronunciations
from tests.training.runs import ROOT, wait_for
from training import cli, plots, sweeps
from training.errors import Interrupted, UserError
from training.sweeps import Result, Run

pytestmark = pytest.mark.filterwarnings("ignore:the load_module:DeprecationWarning")
SWEEPS = sorted((ROOT / "configs/sweeps").glob("*.py"))
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


def toy_runs(*widths, **overrides):
    return [
        Run("tests/toy.py", {"width": w}, {"model.width": w} | overrides, {"test/error": w / 10})
        for w in widths
    ]


def schedule(runs, workdir, variant="", **overrides):
    overrides = {key.replace("__", "."): value for key, value in overrides.items()}
    return sweeps.schedule(runs, str(workdir), overrides, variant)


class FakeLauncher:
    """Writes the files of `train.py` without training; runs named in `fails` fail."""

    def __init__(self, fails=()):
        self.fails, self.started, self.stopped = fails, [], 0

    def submit(self, commands):
        return [self.run(command.argv, command.log) for command in commands]

    def run(self, argv, log):
        workdir = Path(argv[-1].removeprefix("--workdir="))
        self.started.append(workdir.name)
        config = cli.parse_config(["train.py", *argv[2:-1]])
        (workdir / "config.json").write_text(config.to_json_best_effort())
        failed = workdir.name in self.fails
        if failed:
            log.write_text("progress\n\nerror: The loss is nan.\n")
        else:
            summary = {
                "config": config.name,
                "metrics": {"test/error": 0.1 * config.model.width, "dev/error": 1.0},
                "paper": {"test/error": 0.5},
                "steps": config.train.steps,
                "seconds": 65.0,
                "seed": config.seed,
                "device": "test device",
                "commit": "c0ffee",
                "versions": {},
            }
            (workdir / "summary.json").write_text(json.dumps(summary))
        job = Future()
        job.set_result(2 if failed else 0)
        return job

    def stop(self):
        self.stopped += 1


# Validation


@pytest.mark.parametrize(
    "runs, message",
    [
        (toy_runs(8, 8), "Two runs have the name '8': give them different labels"),
        (
            [Run("tests/toy.py", {"a": 1}, {"model.widht": 4})],
            r"Run '1': --config has no key 'model.widht'. Did you mean 'model.width'\?",
        ),
        ([Run("configs/nope.py", {"a": 1}, {})], "Run '1': .*configs/nope"),
        ([Run("tests/toy.py", {"a": 1}, {"model.width": "wide"})], "Run '1': .*width.*wide"),
        ([Run("tests/toy.py", {"a": ".."}, {})], r"{'a': '\.\.'} give an empty run name"),
        ([], "The sweep has no runs"),
    ],
)
def test_invalid_run_is_rejected(runs, message, tmp_path):
    with pytest.raises(UserError, match=message):
        schedule(runs, tmp_path)
    assert not any(tmp_path.iterdir())


def test_run_name_is_a_safe_file_name():
    labels = {"score": "+ global (dot)", "alignment": "local_m", "peak": 0.5, "up": "../b"}
    assert Run("tests/toy.py", labels, {}).name == "+_global_dot-local_m-0.5-b"


def test_run_directory_of_another_config_is_rejected(tmp_path):
    sweeps.execute(schedule(toy_runs(8), tmp_path), FakeLauncher())
    with pytest.raises(UserError, match=r"Run '8': .*optimizer\.b2.*0\.9"):
        schedule(toy_runs(8, **{"optimizer.b2": 0.9}), tmp_path)


@pytest.mark.parametrize(
    "text, message",
    [
        ("METRICS = ()\nfigure = None\n", "is not a sweep file: it does not define runs"),
        ("METRICS = (\n", r"'\(' was never closed"),
        ("METRICS, figure, runs = (), None, lambda: [1][2]\n", "list index out of range"),
    ],
)
def test_invalid_sweep_file_is_rejected(text, message, tmp_path):
    (tmp_path / "bad.py").write_text(text)
    with pytest.raises(UserError, match=rf"bad\.py.*{message}"):
        sweeps.load(str(tmp_path / "bad.py"))


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


@pytest.mark.parametrize("value", [3, 2.5, True, "cosine", (4, 8), ("a", "b")])
def test_override_keeps_its_type(value, tmp_path):
    config = tmp_path / "config.py"
    default = {int: 1, float: 0.1, bool: False, str: "x", tuple: ("", "")}[type(value)]
    default = (1, 2) if value == (4, 8) else default
    config.write_text(
        "from ml_collections import ConfigDict\n"
        f"def get_config(arg=''): return ConfigDict({{'a': {{'b': {default!r}}}}})\n"
    )
    (item,) = schedule([Run(str(config), {"x": 1}, {"a.b": value})], tmp_path)
    assert item.config.a.b == value and type(item.config.a.b) is type(value)


@pytest.mark.parametrize("file", SWEEPS, ids=lambda file: file.stem)
@pytest.mark.parametrize("variant", ["", "smoke"])
def test_every_sweep_file_is_valid(file, variant, tmp_path):
    sweep = sweeps.load(str(file))
    scheduled = schedule(sweep.runs, tmp_path, variant=variant)
    assert len(scheduled) > 1
    assert f"python sweep.py --sweep=configs/sweeps/{file.name}" in file.read_text()
    sweep.figure([Result(item.run, None) for item in scheduled])


@pytest.mark.slow
@pytest.mark.usefixtures("disable_type_checks")
@pytest.mark.parametrize("file", SWEEPS, ids=lambda file: file.stem)
def test_train_step_of_every_run_can_be_traced(file, tmp_path):
    """Some scores require states and annotations of the same width."""
    import tasks  # imported after type checks are disabled

    words = write_pronunciations(tmp_path)
    for item in schedule(sweeps.load(str(file)).runs, tmp_path / "runs", variant="smoke"):
        item.workdir.mkdir(parents=True)
        if item.config.data.corpus == "cmudict":
            item.config.data.dir = str(words)
        task = tasks.build(item.config, str(item.workdir))
        state = jax.eval_shape(task.init, jax.random.key(0))
        batch = next(task.batches("train", 0))
        jax.eval_shape(task.train_step, state, batch, jax.random.key(0))


# Execution


def test_finished_runs_are_skipped(tmp_path):
    for expected in (["8", "16"], [], ["4"]):
        launcher = FakeLauncher()
        runs = toy_runs(8, 16, *([4] if expected == ["4"] else []))
        assert sweeps.execute(schedule(runs, tmp_path), launcher) == dict.fromkeys(expected, 0)
        assert launcher.started == expected and launcher.stopped == 1
    (longer,) = schedule(toy_runs(8), tmp_path, train__steps="50")
    assert longer.summary() is None, "steps remain"
    assert longer.run.overrides == {"model.width": 8, "train.steps": 50}


def test_other_runs_continue_after_a_failure_and_the_failed_run_is_retried(tmp_path, capsys):
    scheduled = schedule(toy_runs(4, 8, 16), tmp_path)
    assert sweeps.execute(scheduled, FakeLauncher(fails=["8"])) == {"4": 0, "8": 2, "16": 0}
    assert capsys.readouterr().out.splitlines() == [
        "4: finished in 1:05",
        "8: failed with code 2",
        "16: finished in 1:05",
    ]
    assert list(sweeps.failure_reports(scheduled, lines=5)) == [
        f"Run 8 failed; see {tmp_path}/8/log.txt:\n    progress\n    error: The loss is nan."
    ]
    retry = FakeLauncher()
    sweeps.execute(scheduled, retry)
    assert retry.started == ["8"] and not list(sweeps.failure_reports(scheduled, lines=5))
    assert capsys.readouterr().out.splitlines()[0] == "4: finished earlier, in 1:05"


def test_signal_stops_the_launcher(tmp_path):
    class InterruptedLauncher(FakeLauncher):
        """Finishes the first run and is interrupted during the second."""

        def run(self, argv, log):
            if self.started:
                os.kill(os.getpid(), signal.SIGTERM)
                return Future()
            return super().run(argv, log)

    launcher = InterruptedLauncher()
    with pytest.raises(Interrupted, match=r"Stopped with 1 of 2 runs finished; run the same"):
        sweeps.execute(schedule(toy_runs(4, 8), tmp_path), launcher)
    assert launcher.stopped == 1


# Reports and figures


def test_report_files(tmp_path):
    runs = [
        Run(
            "tests/toy.py",
            {"width": w, "seed": s},
            {"model.width": w, "seed": s},
            {"test/error": 3},
        )
        for w, s in ((4, 0), (4, 1), (8, 0))
    ]
    runs[1] = runs[1]._replace(overrides={"model.width": 6, "seed": 1})
    scheduled = schedule(runs, tmp_path)
    sweeps.execute(scheduled, FakeLauncher(fails=["8-0"]))
    results = [item.result() for item in scheduled]
    table = sweeps.write_report(results, ("test/error",), tmp_path)
    assert table.splitlines() == [
        "| width | test/error | paper test/error | runs | steps | time |",
        "| --- | --- | --- | --- | --- | --- |",
        "| 4 | 0.5 ± 0.14 | 3 | 2 | 40 | 2:10 |",
        "| 8 | – | 3 | 0 | – | – |",
    ]
    assert (tmp_path / "table.md").read_text() == table + "\n"
    with (tmp_path / "table.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["run"] for row in rows] == ["4-0", "4-1", "8-0"]
    assert [row["dev/error"] for row in rows] == ["1.0", "1.0", ""]
    summaries = json.loads((tmp_path / "summary.json").read_text())
    assert [(x["run"], x["overrides"], x["paper"]) for x in summaries] == [
        ("4-0", {"model.width": 4, "seed": 0}, {"test/error": 3}),
        ("4-1", {"model.width": 6, "seed": 1}, {"test/error": 3}),
    ]
    assert summaries[0]["config"] == "toy" and summaries[0]["commit"] == "c0ffee"


def summary(**metrics):
    return {"metrics": {name.replace("__", "/"): x for name, x in metrics.items()}}


def test_metric_bars_show_means_and_paper_values():
    results = [
        Result(Run("", {"score": "dot", "seed": 0}, {}, {"a": 3.0}), summary(a=1.0)),
        Result(Run("", {"score": "dot", "seed": 1}, {}, {"a": 3.0}), summary(a=2.0)),
        Result(Run("", {"score": "general", "seed": 0}, {}), None),
    ]
    (axes,) = plots.metric_bars(results, ["a"]).axes
    assert [bar.get_width() for bar in axes.patches] == [1.5]
    assert [label.get_text() for label in axes.get_yticklabels()] == ["dot", "general"]
    assert [list(line.get_xdata()) for line in axes.lines] == [[1.0, 2.0], [3.0]]


def test_metric_heatmap_shows_values_and_missing_cells():
    results = [
        Result(Run("", {"score": s, "alignment": a}, {}), summary(m=x) if x else None)
        for s, a, x in (("dot", "soft", 1.0), ("dot", "hard", 0.5), ("general", "soft", None))
    ]
    axes = plots.metric_heatmap(results, "m", "score", "alignment").axes[0]
    assert [text.get_text() for text in axes.texts] == ["1", "0.5", "–", "–"]
    assert [label.get_text() for label in axes.get_xticklabels()] == ["soft", "hard"]


def test_metric_by_length_plots_bin_centers():
    metrics = {"test/m_2-3": 1.0, "test/m_4-7": 0.5, "test_long/m_8-8": 0.2, "test/m": 0.7}
    results = [Result(Run("", {"attention": "none"}, {}), {"metrics": metrics})]
    (axes,) = plots.metric_by_length(results, "m").axes
    assert [list(map(tuple, line.get_xydata())) for line in axes.lines] == [
        [(2.5, 1.0), (5.5, 0.5)],
        [(8.0, 0.2)],
    ]


def test_learning_curves_are_means_over_repetitions_by_example_count():
    """Each step has 16 examples."""

    def result(seed, values):
        lines = [{"step": 1, "loss": 9.0, "items": 16.0}]
        lines += [{"step": step, "dev/bits": bits} for step, bits in values.items()]
        labels = {"task": "copy", "model": "LSTM", "seed": seed}
        return Result(Run("", labels, {}, {"test/bits": 2.0}), None, lines)

    results = [result(0, {10: 4.0, 20: 3.0}), result(1, {10: 6.0})]
    figure = plots.learning_curves(results, "bits", panels="task", lines="model", unit="sequences")
    (axes,) = figure.axes
    curve, paper = axes.lines
    assert list(map(tuple, curve.get_xydata())) == [(160.0, 5.0), (320.0, 3.0)]
    assert set(paper.get_ydata()) == {2.0} and axes.get_yscale() == "linear"


# Command line


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
    scheduled = schedule(sweeps.load(str(file)).runs, tmp_path / "runs", train__steps="10")
    assert [item.summary() is None for item in scheduled] == [False, True]


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
