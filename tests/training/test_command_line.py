"""Whatever is wrong with a command gets one sentence, before any long work."""

import json
import os
import subprocess
import sys

import pytest

from tests import toy
from tests.training.runs import ROOT, small, start
from training import cli, console, metric_writer, run
from training.errors import UserError

# ml_collections loads config files by a method that Python 3.12 drops.
pytestmark = pytest.mark.filterwarnings("ignore:the load_module:DeprecationWarning")
TOY = "--config=tests/toy.py"


@pytest.mark.parametrize(
    ("flags", "sentence"),
    [
        ((), "Say which run to do: --config=configs/NAME.py"),
        (("--config=configs/nope.py",), "There is no config file configs/nope.py."),
        (("--config=configs/nope.py:smoke",), "There is no config file configs/nope.py."),
        ((TOY + ":smok",), "tests/toy.py:smok: there is no variant 'smok'"),
        (
            (TOY, "--config.train.step=4"),
            "--config has no key 'train.step'. Did you mean 'train.steps'?",
        ),
        ((TOY, "--config.optimiser.b1=4"), "Did you mean 'optimizer.b1'?"),
        ((TOY, "--config.zzz", "4"), "--config has no key 'zzz'."),
        (
            (TOY, "--config.train.log_every=0"),
            "train.log_every must be a number of at least 1, not 0.",
        ),
        (
            (TOY, "--config.train.steps", "-1"),
            "train.steps must be a number of at least 1, not -1.",
        ),
        (
            (TOY, "--config.optimizer.peak=nan"),
            "optimizer.peak must be a number of at least 0, not nan.",
        ),
        ((TOY, "--config.train[0]=1"), "as --config.train='(3,5)', and not [0] alone."),
        ((TOY, "--config.optimizer.b1=1.5"), "optimizer.b1 must be from 0 to 1, not 1.5."),
        ((TOY, "--config.seed=4294967296"), "seed must be from 0 to 4294967295, not 4294967296."),
    ],
)
def test_wrong_flags(flags, sentence, monkeypatch):
    monkeypatch.chdir(ROOT)
    with pytest.raises(UserError) as error:
        cli.check_config_flags(["train.py", *flags])
    assert str(error.value).endswith(sentence)


def test_right_flags(monkeypatch):
    monkeypatch.chdir(ROOT)
    flags = ["--config.train.steps=4", "--config.mesh.fsdp", "-1", "--config.optimizer.warmup=0"]
    cli.check_config_flags(["train.py", TOY, *flags])


def test_a_home_is_found_where_shells_do_not_look(monkeypatch):
    monkeypatch.setenv("HOME", "/home/me")
    line = ["x.py", "--dir=~/runs", "--text=~ of 3=~/4", "--dir", "~/runs"]
    with pytest.raises(SystemExit):
        cli.parse_flags(line, lambda argv: sys.exit())
    assert line == ["x.py", "--dir=/home/me/runs", *line[2:]] and line[2] == "--text=~ of 3=~/4"


@pytest.mark.parametrize("text", ["def get_config(:", "import nothing_of_the_kind", "assert False"])
def test_a_file_that_is_no_config(text, tmp_path):
    (path := tmp_path / "no config.py").write_text(text)
    with pytest.raises(UserError, match=f"^{path}: [^\n]+$"):
        cli.check_config_flags(["train.py", f"--config={path}"])


def test_what_a_person_stops_is_told_so(capsys):
    def work():
        raise KeyboardInterrupt

    assert cli.exit_code(work) == 130
    assert capsys.readouterr().err.startswith("Stopped. What was saved is kept")


def test_a_full_disk_is_told_so(capsys):
    def work():
        with open("/dev/full", "w") as file:
            file.write("x")

    assert cli.exit_code(work) == 2
    assert "cannot be written: No space left on device; make room" in capsys.readouterr().err


def test_a_wrong_flag_ends_the_program_with_the_sentence_alone(tmp_path):
    process = start(tmp_path, "--config.train.step=4")
    output, errors = process.communicate()
    assert process.returncode == 2 and output == ""
    assert errors == "error: --config has no key 'train.step'. Did you mean 'train.steps'?\n"


def test_a_folder_that_nothing_was_made_in_is_free(tmp_path):
    """As one is after a misspelt value: the command put right goes on in it."""
    run.open_workdir(small(optimizer__peak=0.1), str(tmp_path))
    run.open_workdir(small(optimizer__peak=0.5), str(tmp_path))
    assert json.loads((tmp_path / "config.json").read_text())["optimizer"]["peak"] == 0.5


def test_workdir_of_another_config_names_the_key_and_both_values(tmp_path):
    run.open_workdir(small(), str(tmp_path))
    (tmp_path / "metrics.jsonl").touch()
    with pytest.raises(UserError, match="another config: optimizer.peak was 0.01 there and is 0.5"):
        run.open_workdir(small(optimizer__peak=0.5), str(tmp_path))
    with pytest.raises(UserError, match="train.steps was 40 there and is 30 now"):
        run.open_workdir(small(train__steps=30), str(tmp_path))
    assert json.loads((tmp_path / "config.json").read_text())["optimizer"]["peak"] == 0.01


def test_more_steps_other_devices_or_another_best_are_the_same_run(tmp_path):
    run.open_workdir(small(), str(tmp_path))
    (tmp_path / "metrics.jsonl").touch()
    more = {"train__best": "dev/cost", "train__best_mode": "max", "train__log_every": 9}
    run.open_workdir(small(train__steps=50, mesh__fsdp=2, **more), str(tmp_path))
    written = json.loads((tmp_path / "config.json").read_text())["train"]
    assert written["steps"] == 50 and written["best"] == "dev/cost"


def test_a_terminal_that_is_gone_is_no_error(monkeypatch):
    ours, theirs = os.openpty()
    screen = open(theirs, "w")  # noqa: SIM115  closing it is an error, as is seen below
    os.close(ours)
    monkeypatch.setattr(sys, "stdout", screen)
    console.Console(3, "rows").say("a line")
    with pytest.raises(OSError, match="Input/output"):
        screen.close()


def test_speeds_are_of_the_time_between_reports_but_for_pauses(monkeypatch):
    clock = iter([0.0, 10.0, 11.0, 14.0, 15.0, 17.0])
    monkeypatch.setattr(console.time, "perf_counter", lambda: next(clock))
    screen = console.Console(100, "rows", quiet=True)
    with screen.training(0, 1e11):  # from 10 on, at a peak of 1e11 FLOP/s
        with screen.pause("evaluating"):  # from 11 to 14
            pass
        screen.advance(1, 10, 5e9)
        screen.advance(2, 10, 5e9)
        found = [screen.report(2, 0.5)]  # at 15, of two seconds
        screen.advance(3, 10, 5e9)
        found.append(screen.report(3, 0.5))
    assert found[0] == {"items_per_second": 10.0, "peak_fraction": pytest.approx(0.05)}
    assert found[1] == {"items_per_second": 5.0, "peak_fraction": pytest.approx(0.025)}


@pytest.mark.parametrize("name", [run.CONFIG, run.SUMMARY])
@pytest.mark.parametrize("content", [b"", b"[1, 2]", b"{}", b'{"name": "M\xfc'])
def test_damaged_records_are_named(name, content, tmp_path):
    run.open_workdir(small(), str(tmp_path))
    (tmp_path / name).write_bytes(content)
    with pytest.raises(UserError, match=f"{name} is damaged: put it back as it was, or remove it"):
        (run.read_config if name == run.CONFIG else run.read_summary)(str(tmp_path))


def test_lines_that_are_no_records_are_passed_over(tmp_path):
    lines = [b'{"step": 1, "loss": 2}', b"3", b'{"loss": 2}', b'{"step": 2, "\xff', b'{"step": 3}']
    (tmp_path / metric_writer.FILE).write_bytes(b"\n".join(lines))
    assert [line["step"] for line in metric_writer.read(str(tmp_path))] == [1, 3]


def test_a_folder_has_one_process_that_trains(tmp_path):
    with (
        run.lock_workdir(str(tmp_path)),
        pytest.raises(UserError, match="Another process trains in"),
    ):
        run.lock_workdir(str(tmp_path)).__enter__()
    with run.lock_workdir(str(tmp_path)):
        pass


def test_one_that_has_to_wait_changes_nothing(tmp_path):
    run.open_workdir(small(), str(tmp_path))
    with run.lock_workdir(str(tmp_path)):
        output, errors = start(tmp_path, "--config.train.steps=50").communicate()
    assert output == "" and errors.startswith(f"error: Another process trains in {tmp_path}: ")
    assert json.loads((tmp_path / "config.json").read_text())["train"]["steps"] == 40


def test_a_cosine_cannot_be_made_longer(tmp_path):
    from configs import transformer_nmt

    config = transformer_nmt.get_config("smoke")
    run.open_workdir(config, str(tmp_path))
    (tmp_path / "metrics.jsonl").touch()
    config.train.steps = 6
    with pytest.raises(UserError, match="falls to zero at update 4, so the run cannot be made lo"):
        run.open_workdir(config, str(tmp_path))


@pytest.mark.parametrize("where", ["/proc/run", "file/run"])
def test_unwritable_workdir(tmp_path, where, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match=f"Cannot write to {where}: "):
        run.open_workdir(small(), where)


def test_unknown_task(tmp_path):
    import tasks

    config = small()
    config.task = "tranlation"
    with pytest.raises(UserError, match="There is no task 'tranlation'."):
        tasks.build(config, str(tmp_path))
    config.task = "tasks.nothing"
    with pytest.raises(UserError, match="There is no task 'tasks.nothing': No module named"):
        tasks.build(config, str(tmp_path))
    config.task = "data"
    with pytest.raises(UserError, match="'data' is no task: it has no function 'build'."):
        tasks.build(config, str(tmp_path))


def test_training_knows_no_task():
    """The loop's package imports nothing of ours."""
    code = (
        "import sys, training.loop, training.cli, training.optimizer;"
        "ours = {'attention', 'models', 'tasks', 'configs'};"
        "print({name.split('.')[0] for name in sys.modules} & ours)"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.stdout == "set()\n", done.stderr


def test_every_key_of_the_toy_is_named():
    assert {"train", "train.steps", "name"} <= dict(cli.all_values(toy.get_config())).keys()


def test_durations():
    assert [console.duration(s) for s in (5.0, 65.0, 3665.0)] == ["0:05", "1:05", "1:01:05"]
