"""Tests of sweeps: validation, execution and reports."""

import csv
import json
import os
import signal
from concurrent.futures import Future
from pathlib import Path

import jax
import pytest
from ml_collections import ConfigDict

from tests.commands import write_parallel_corpus, write_pronunciations
from tests.training.runs import ROOT
from training import cli, sweeps
from training.errors import Interrupted, UserError
from training.sweeps import Result, Run

pytestmark = pytest.mark.filterwarnings("ignore:the load_module:DeprecationWarning")
SWEEPS = sorted((ROOT / "configs/sweeps").glob("*.py"))


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


def test_override_of_a_compared_value_is_rejected(tmp_path):
    """Otherwise runs of the same value would have the names of different values."""
    runs = toy_runs(4, 8, **{"optimizer.b2": 0.9})
    with pytest.raises(UserError, match=r"compares values of model.width .* leave out --config"):
        schedule(runs, tmp_path, model__width="16")
    assert len(schedule(runs, tmp_path, optimizer__b2="0.8")) == 2


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


def test_section_can_be_overridden_as_a_whole(tmp_path):
    config = tmp_path / "config.py"
    config.write_text(
        "from ml_collections import ConfigDict\n"
        "def get_config(arg=''): return ConfigDict({'labels': {'solver': 'exact'}})\n"
    )
    labels = {"solver": "search", "instances": 8}
    (item,) = schedule([Run(str(config), {"x": 1}, {"labels": labels})], tmp_path)
    assert item.config.labels.to_dict() == item.run.overrides["labels"] == labels


@pytest.mark.parametrize("file", SWEEPS, ids=lambda file: file.stem)
@pytest.mark.parametrize("variant", ["", "smoke"])
def test_every_sweep_file_is_valid(file, variant, tmp_path):
    sweep = sweeps.load(str(file))
    scheduled = schedule(sweep.runs, tmp_path, variant=variant)
    assert len(scheduled) > 1
    assert f"python sweep.py --sweep=configs/sweeps/{file.name}" in file.read_text()
    sweep.figure([Result(item.run, None) for item in scheduled])
    if any(name.startswith("dev/") for name in sweep.metrics):
        for train in (item.config.train for item in scheduled):
            assert train.steps % train.eval_every == 0, "the summary would have no dev metrics"


@pytest.mark.slow
@pytest.mark.usefixtures("disable_type_checks")
@pytest.mark.parametrize("file", SWEEPS, ids=lambda file: file.stem)
def test_train_step_of_every_run_can_be_traced(file, tmp_path):
    """Some scores require states and annotations of the same width."""
    import tasks  # imported after type checks are disabled

    words, text = write_pronunciations(tmp_path), tmp_path / "text"
    text.mkdir()
    write_parallel_corpus(text, train=400, dev=8, test=8)
    for item in schedule(sweeps.load(str(file)).runs, tmp_path / "runs", variant="smoke"):
        item.workdir.mkdir(parents=True)
        corpus = item.config.get("data", {}).get("corpus")
        if corpus == "cmudict":
            item.config.data.dir = str(words)
        elif corpus in ("multi30k", "text_files", "tfds"):
            files = {"corpus": "text_files", "source": "en", "target": "de", "dir": str(text)}
            with item.config.unlocked():
                item.config.data = ConfigDict(files)
        task = tasks.build(item.config, str(item.workdir))
        state = jax.eval_shape(task.init, jax.random.key(0))
        batch = next(task.batches("train", 0))
        jax.eval_shape(task.train_step, state, batch, jax.random.key(0))


# Execution


def test_finished_runs_are_skipped(tmp_path):
    for expected in (["8", "16"], [], ["4"]):
        launcher = FakeLauncher()
        runs = toy_runs(8, 16, *([4] if expected == ["4"] else []))
        sweeps.execute(schedule(runs, tmp_path), launcher)
        assert launcher.started == expected and launcher.stopped == 1
    (longer,) = schedule(toy_runs(8), tmp_path, train__steps="50")
    assert longer.summary() is None, "steps remain"
    assert longer.run.overrides == {"model.width": 8, "train.steps": 50}


def test_other_runs_continue_after_a_failure_and_the_failed_run_is_retried(tmp_path, capsys):
    scheduled = schedule(toy_runs(4, 8, 16), tmp_path)
    sweeps.execute(scheduled, FakeLauncher(fails=["8"]))
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


def test_run_that_fails_after_its_summary_is_finished(tmp_path):
    """The table and the exit code count summaries; the state must agree with them."""
    scheduled = schedule(toy_runs(8), tmp_path)
    sweeps.execute(scheduled, FakeLauncher())
    job = Future()
    job.set_result(1)
    assert sweeps.run_states(scheduled, {"8": job}) == {"8": ("finished", "in 1:05")}


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


# Reports


def test_report_averages_seeds_and_lists_every_run(tmp_path):
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
    table = sweeps.markdown_table(results, ("test/error",))
    sweeps.write_report(results, table, tmp_path)
    assert table.splitlines() == [
        "| width | test/error | paper test/error | runs | steps | total time |",
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
