"""Whatever is wrong with a command gets one sentence, before any long work."""

import json
import subprocess
import sys

import pytest

from tests import toy
from tests.training.runs import ROOT, small, start
from training import cli, console, run
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
            "The config has no key 'train.step'. Did you mean 'train.steps'?",
        ),
        ((TOY, "--config.optimiser.b1=4"), "Did you mean 'optimizer.b1'?"),
        ((TOY, "--config.zzz", "4"), "The config has no key 'zzz'."),
    ],
)
def test_wrong_flags(flags, sentence, monkeypatch):
    monkeypatch.chdir(ROOT)
    with pytest.raises(UserError) as error:
        cli.check_config_flags(["train.py", *flags])
    assert str(error.value).endswith(sentence)


def test_right_flags(monkeypatch):
    monkeypatch.chdir(ROOT)
    cli.check_config_flags(["train.py", TOY, "--config.train.steps=4", "--config.mesh.data", "1"])


def test_a_wrong_flag_ends_the_program_with_the_sentence_alone(tmp_path):
    process = start(tmp_path, "--config.train.step=4")
    output, errors = process.communicate()
    assert process.returncode == 2 and output == ""
    assert errors == "error: The config has no key 'train.step'. Did you mean 'train.steps'?\n"


def test_workdir_of_another_config_names_the_key_and_both_values(tmp_path):
    run.open_workdir(small(), str(tmp_path))
    with pytest.raises(UserError, match="another config: optimizer.peak was 0.01 there and is 0.5"):
        run.open_workdir(small(optimizer__peak=0.5), str(tmp_path))
    with pytest.raises(UserError, match="train.steps was 40 there and is 30 now"):
        run.open_workdir(small(train__steps=30), str(tmp_path))
    assert json.loads((tmp_path / "config.json").read_text())["optimizer"]["peak"] == 0.01


def test_more_steps_or_other_devices_are_the_same_run(tmp_path):
    run.open_workdir(small(), str(tmp_path))
    run.open_workdir(small(train__steps=50, mesh__fsdp=2), str(tmp_path))
    assert json.loads((tmp_path / "config.json").read_text())["train"]["steps"] == 50


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
