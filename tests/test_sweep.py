"""Sweeps: checked before they start, what is done is not done again, one failure ends no other."""

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

from tests.commands import run_in_process, run_in_subprocess, write_words
from tests.training.runs import ROOT, wait_for
from training import cli, plots, sweeps
from training.errors import Interrupted, UserError
from training.sweeps import Result, Run

pytestmark = pytest.mark.filterwarnings("ignore:the load_module:DeprecationWarning")
SWEEPS = sorted((ROOT / "configs/sweeps").glob("*.py"))
HEADS = "--sweep=configs/sweeps/transformer_heads.py"
FILE = """
from functools import partial
from training.plots import bars
from training.sweeps import Run

METRICS = ("test/error",)
figure = partial(bars, metrics=METRICS)

def runs():
    for peak in {peaks}:
        yield Run(
            config="tests/toy.py",
            labels={{"peak": peak}},
            overrides={{"optimizer.peak": peak, "data.poison": 3 if peak == 9.0 else -1}},
            paper={{"test/error": peak}},
        )
"""


@pytest.fixture(autouse=True)
def at_root(monkeypatch):
    monkeypatch.chdir(ROOT)


def toys(*widths, **overrides):
    return [
        Run("tests/toy.py", {"width": w}, {"model.width": w} | overrides, {"test/error": w / 10})
        for w in widths
    ]


def plan(runs, workdir, variant="", **changes):
    changes = {key.replace("__", "."): value for key, value in changes.items()}
    return sweeps.plan(runs, str(workdir), changes, variant)


class Instant:
    """Does at once what `train.py` would do in a while; fails in the folders it is told to."""

    def __init__(self, fails=()):
        self.fails, self.started, self.stopped = fails, [], 0

    def submit(self, commands):
        return [self.run(command.argv, command.log) for command in commands]

    def run(self, argv, log):
        workdir = Path(argv[-1].removeprefix("--workdir="))
        self.started.append(workdir.name)
        config = cli.read_config(["train.py", *argv[2:-1]])
        (workdir / "config.json").write_text(config.to_json_best_effort())
        failed = workdir.name in self.fails
        if failed:
            log.write_text("a bar\n\nerror: The loss is nan.\n")
        else:
            summary = {
                "config": config.name,
                "metrics": {"test/error": 0.1 * config.model.width, "dev/error": 1.0},
                "paper": {"test/error": 0.5},
                "steps": config.train.steps,
                "seconds": 65.0,
                "seed": config.seed,
                "device": "an abacus",
                "commit": "c0ffee",
                "versions": {},
            }
            (workdir / "summary.json").write_text(json.dumps(summary))
        job = Future()
        job.set_result(2 if failed else 0)
        return job

    def stop(self):
        self.stopped += 1


def results(planned):
    return [Result(one.run, one.summary()) for one in planned]


# Before anything starts.


@pytest.mark.parametrize(
    "runs, sentence",
    [
        (toys(8, 8), "Two runs are called '8': give them different labels"),
        (
            [Run("tests/toy.py", {"a": 1}, {"model.widht": 4})],
            r"Run '1': --config has no key 'model.widht'. Did you mean 'model.width'\?",
        ),
        ([Run("configs/nope.py", {"a": 1}, {})], "Run '1': There is no config file configs/nope"),
        ([Run("tests/toy.py", {"a": 1}, {"model.width": "wide"})], "Run '1': .*width.*wide"),
        ([Run("tests/toy.py", {"a": ".."}, {})], r"{'a': '\.\.'} has no name"),
        ([], "no runs"),
    ],
)
def test_a_bad_run_is_a_sentence(runs, sentence, tmp_path):
    with pytest.raises(UserError, match=sentence):
        plan(runs, tmp_path)
    assert not any(tmp_path.iterdir())


def test_a_run_is_called_by_its_labels_and_stays_in_its_folder():
    labels = {"score": "+ global (dot)", "alignment": "local_m", "peak": 0.5, "up": "../b"}
    assert Run("tests/toy.py", labels, {}).name == "+_global_dot-local_m-0.5-b"


def test_a_folder_of_another_run_is_too(tmp_path):
    sweeps.execute(plan(toys(8), tmp_path), Instant())
    with pytest.raises(UserError, match=r"Run '8': .*optimizer\.b2 was 0.98 there and is 0.9 now"):
        plan(toys(8, **{"optimizer.b2": 0.9}), tmp_path)


def test_a_file_that_is_no_sweep(tmp_path):
    with pytest.raises(UserError, match="There is no sweep file nope.py"):
        sweeps.load("nope.py")
    (tmp_path / "bad.py").write_text("METRICS = ()\nfigure = None\n")
    with pytest.raises(UserError, match=r"bad\.py is no sweep: it has no runs"):
        sweeps.load(str(tmp_path / "bad.py"))
    (tmp_path / "bad.py").write_text("METRICS = (\n")
    with pytest.raises(UserError, match=r"bad\.py: '\(' was never closed"):
        sweeps.load(str(tmp_path / "bad.py"))
    (tmp_path / "bad.py").write_text("METRICS, figure, runs = (), None, lambda: [1][2]\n")
    with pytest.raises(UserError, match=r"bad\.py: list index out of range"):
        sweeps.load(str(tmp_path / "bad.py"))


@pytest.mark.parametrize(
    "flags, sentence",
    [
        ((), "Say which sweep: --sweep=configs/sweeps/NAME.py"),
        (("--sweep=nope.py",), "There is no sweep file nope.py."),
        (("--sweep=nope.py", "--parallel=0"), "parallel"),
        (("--sweep=nope.py", "--launcher=cloud"), "launcher"),
        (("--sweep=nope.py", "--config.seed", "4"), "write --config.key=value"),
        ((HEADS, "--config.model.haeds=2"), "no key 'model.haeds'. Did you mean 'model.heads'?"),
        ((HEADS, "--slurm.partiton=gpu"), "no key 'partiton'. Did you mean 'partition'?"),
        ((HEADS, "--slurm.hours=-1"), "hours must be a number of at least 0, not -1."),
        ((HEADS, "--slurm=nope.py"), "There is no config file nope.py."),
        ((HEADS, "--workdir=README.md/runs"), "Cannot write to README.md/runs: "),
    ],
)
def test_a_wrong_command_is_a_sentence(flags, sentence, tmp_path):
    done = run_in_process("sweep.py", f"--workdir={tmp_path}", *flags)
    assert (done.code, done.output) == (2, "")
    assert done.errors.startswith("error: ") and sentence in done.errors
    assert done.errors.count("\n") == 1 and not any(tmp_path.iterdir())


@pytest.mark.parametrize("value", [3, 2.5, True, "cosine", (4, 8), ("a", "b")])
def test_a_value_comes_through_the_command_line_as_it_is(value, tmp_path):
    """Of whichever type the key has."""
    config = tmp_path / "config.py"
    other = {int: 1, float: 0.1, bool: False, str: "x", tuple: ("", "")}[type(value)]
    other = (1, 2) if value == (4, 8) else other
    config.write_text(
        "from ml_collections import ConfigDict\n"
        f"def get_config(arg=''): return ConfigDict({{'a': {{'b': {other!r}}}}})\n"
    )
    (one,) = plan([Run(str(config), {"x": 1}, {"a.b": value})], tmp_path)
    assert one.config.a.b == value and type(one.config.a.b) is type(value)


@pytest.mark.parametrize("file", SWEEPS, ids=lambda file: file.stem)
@pytest.mark.parametrize("variant", ["", "smoke"])
def test_every_sweep_can_start(file, variant, tmp_path):
    sweep = sweeps.load(str(file))
    planned = plan(sweep.runs, tmp_path, variant=variant)
    assert len(planned) > 1
    assert f"python sweep.py --sweep=configs/sweeps/{file.name}" in file.read_text()
    sweep.figure([Result(one.run, None) for one in planned])


@pytest.mark.slow
@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize("file", SWEEPS, ids=lambda file: file.stem)
def test_every_run_of_a_sweep_has_a_model(file, tmp_path):
    """Which some scores refuse to be, if states and annotations are not of one width."""
    import tasks  # not above: the signatures of what is imported there would go unchecked

    words = write_words(tmp_path)
    for one in plan(sweeps.load(str(file)).runs, tmp_path / "runs", variant="smoke"):
        one.workdir.mkdir(parents=True)
        if one.config.data.corpus == "cmudict":
            one.config.data.dir = str(words)
        task = tasks.build(one.config, str(one.workdir))
        state = jax.eval_shape(task.init, jax.random.key(0))
        batch = next(task.batches("train", 0))
        jax.eval_shape(task.train_step, state, batch, jax.random.key(0))


# Running.


def test_what_is_finished_is_not_run_again(tmp_path):
    for expected in (["8", "16"], [], ["4"]):
        launcher = Instant()
        runs = toys(8, 16, *([4] if expected == ["4"] else []))
        assert sweeps.execute(plan(runs, tmp_path), launcher) == dict.fromkeys(expected, 0)
        assert launcher.started == expected and launcher.stopped == 1
    (longer,) = plan(toys(8), tmp_path, train__steps="50")
    assert longer.summary() is None, "has steps to go"
    assert longer.run.overrides == {"model.width": 8, "train.steps": 50}


def test_a_failure_ends_no_other_and_is_tried_again(tmp_path, capsys):
    planned = plan(toys(4, 8, 16), tmp_path)
    assert sweeps.execute(planned, Instant(fails=["8"])) == {"4": 0, "8": 2, "16": 0}
    assert capsys.readouterr().out.splitlines() == [
        "4: finished in 1:05",
        "8: failed with code 2",
        "16: finished in 1:05",
    ]
    assert list(sweeps.failures(planned, lines=5)) == [
        f"8 failed, as {tmp_path}/8/log.txt tells:\n    a bar\n    error: The loss is nan."
    ]
    again = Instant()
    sweeps.execute(planned, again)
    assert again.started == ["8"] and not list(sweeps.failures(planned, lines=5))
    assert capsys.readouterr().out.splitlines()[0] == "4: finished before, in 1:05"


def test_a_signal_stops_the_jobs_and_says_how_to_go_on(tmp_path):
    class Endless(Instant):
        def run(self, argv, log):
            if self.started:
                os.kill(os.getpid(), signal.SIGTERM)
                return Future()
            return super().run(argv, log)

    launcher = Endless()
    with pytest.raises(Interrupted, match=r"Stopped with 1 of 2 runs finished; the same command"):
        sweeps.execute(plan(toys(4, 8), tmp_path), launcher)
    assert launcher.stopped == 1


# What is left of it.


def test_tables_and_summaries(tmp_path):
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
    planned = plan(runs, tmp_path)
    sweeps.execute(planned, Instant(fails=["8-0"]))
    table = sweeps.record(results(planned), ("test/error",), tmp_path)
    assert table.splitlines() == [
        "| width | test/error | paper's test/error | runs | steps | time |",
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


def summary(**measures):
    return {"metrics": {name.replace("__", "/"): x for name, x in measures.items()}}


def test_bars_are_means_beside_the_paper():
    found = [
        Result(Run("", {"score": "dot", "seed": 0}, {}, {"a": 3.0}), summary(a=1.0)),
        Result(Run("", {"score": "dot", "seed": 1}, {}, {"a": 3.0}), summary(a=2.0)),
        Result(Run("", {"score": "general", "seed": 0}, {}), None),
    ]
    (axes,) = plots.bars(found, ["a"]).axes
    assert [bar.get_width() for bar in axes.patches] == [1.5]
    assert [label.get_text() for label in axes.get_yticklabels()] == ["dot", "general"]
    assert [list(line.get_xdata()) for line in axes.lines] == [[1.0, 2.0], [3.0]]


def test_a_heat_map_says_its_numbers_and_leaves_gaps():
    found = [
        Result(Run("", {"score": s, "alignment": a}, {}), summary(m=x) if x else None)
        for s, a, x in (("dot", "soft", 1.0), ("dot", "hard", 0.5), ("general", "soft", None))
    ]
    axes = plots.heat_map(found, "m", "score", "alignment").axes[0]
    assert [text.get_text() for text in axes.texts] == ["1", "0.5", "–", "–"]
    assert [label.get_text() for label in axes.get_xticklabels()] == ["soft", "hard"]


def test_lines_over_length_are_of_the_middles_of_their_ranges():
    measures = {"test/m_2-3": 1.0, "test/m_4-7": 0.5, "test_long/m_8-8": 0.2, "test/m": 0.7}
    found = [Result(Run("", {"attention": "none"}, {}), {"metrics": measures})]
    (axes,) = plots.by_length(found, "m").axes
    assert [list(map(tuple, line.get_xydata())) for line in axes.lines] == [
        [(2.5, 1.0), (5.5, 0.5)],
        [(8.0, 0.2)],
    ]


def test_curves_are_of_what_was_seen_and_of_all_repetitions():
    """The mean at each number of items, 16 a step; the paper's end is dashed."""

    def one(seed, values):
        lines = [{"step": 1, "loss": 9.0, "items": 16.0}]
        lines += [{"step": step, "dev/bits": bits} for step, bits in values.items()]
        labels = {"task": "copy", "model": "LSTM", "seed": seed}
        return Result(Run("", labels, {}, {"test/bits": 2.0}), None, lines)

    found = [one(0, {10: 4.0, 20: 3.0}), one(1, {10: 6.0})]
    (axes,) = plots.curves(found, "bits", panels="task", lines="model", unit="sequences").axes
    course, printed = axes.lines
    assert list(map(tuple, course.get_xydata())) == [(160.0, 5.0), (320.0, 3.0)]
    assert set(printed.get_ydata()) == {2.0} and axes.get_yscale() == "linear"


# As a user runs it.


def test_a_sweep_goes_all_the_way_with_a_run_that_fails(tmp_path):
    (tmp_path / "peaks.py").write_text(FILE.format(peaks=(0.01, 9.0)))
    command = (
        "sweep.py",
        f"--sweep={tmp_path}/peaks.py",
        f"--workdir={tmp_path}/runs",
        "--parallel=2",
        "--config.train.steps=10",
    )
    done = run_in_subprocess(*command)
    assert done.code == 1
    assert "9.0 failed, as" in done.errors and "The loss is nan at step 4" in done.errors
    assert "1 of 2 runs failed; the same command tries them again." in done.output
    assert re.search(r"^\| 0\.01 \| \d\.\d+ \| 0\.01 \| 1 \| 10 \| \d+:\d\d \|$", done.output, re.M)
    assert (tmp_path / "runs/figure.png").stat().st_size > 1000
    planned = plan(sweeps.load(command[1][8:]).runs, tmp_path / "runs", train__steps="10")
    assert [one.summary() is None for one in planned] == [False, True]


@pytest.mark.slow
def test_ctrl_c_saves_and_the_same_command_goes_on(tmp_path):
    (tmp_path / "peaks.py").write_text(FILE.format(peaks=(0.01,)))
    command = [
        "sweep.py",
        f"--sweep={tmp_path}/peaks.py",
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
    record, log = (tmp_path / "runs/0.01" / name for name in ("metrics.jsonl", "log.txt"))
    wait_for(lambda: record.exists() and record.read_text().count("\n") > 1, process, seconds=300)
    process.send_signal(signal.SIGINT)
    assert process.communicate(timeout=300) == (
        "0.01: running\n",
        "Stopped with 0 of 1 runs finished; the same command goes on.\n",
    )
    assert process.returncode == 130
    step = re.search(r"Stopped at step (\d+) of 300, saved", log.read_text())[1]
    done = run_in_subprocess(*command)
    assert done.code == 0 and "0.01: finished in" in done.output
    assert f"300, resuming from {step}" in log.read_text()
