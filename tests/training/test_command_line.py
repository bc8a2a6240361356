"""Validation of flags and configs, and exit codes."""

import sys

import jax
import pytest

from tasks.pointing.search import SEARCHES
from tests import toy
from tests.commands import ROOT, run_in_process
from tests.training.runs import start_run, toy_config
from training import cli, run
from training.errors import UserError

# ml_collections loads config files with a method that is deprecated in Python 3.12.
pytestmark = pytest.mark.filterwarnings("ignore:the load_module:DeprecationWarning")
TOY = "--config=tests/toy.py"
NMT = "--config=configs/transformer_nmt.py:smoke"


# Flags.


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ((), "No config: pass --config=configs/NAME.py."),
        (("--config=configs/nope.py",), "Config file configs/nope.py does not exist."),
        (("--config=configs/nope.py:smoke",), "Config file configs/nope.py does not exist."),
        ((TOY + ":smok",), "tests/toy.py:smok: there is no variant 'smok'"),
        (
            (TOY, "--config.train.step=4"),
            "--config has no key 'train.step'. Did you mean 'train.steps'?",
        ),
        ((TOY, "--config.optimiser.b1=4"), "Did you mean 'optimizer.b1'?"),
        ((TOY, "--config.zzz", "4"), "--config has no key 'zzz'."),
        ((TOY, "--config.train.log_every=0"), "train.log_every must be at least 1, not 0."),
        ((TOY, "--config.train.steps", "-1"), "train.steps must be at least 1, not -1."),
        (
            (TOY, "--config.optimizer.learning_rate=nan"),
            "optimizer.learning_rate must be at least 0, not nan.",
        ),
        (
            (TOY, "--config.train={'steps': 3}"),
            "train is a section: set single keys, such as train.accumulate, or change the config "
            "file.",
        ),
        ((TOY, "--config.paper.test/error=1"), "cannot be set by a flag: change the config file."),
        ((TOY, "--config.train.steps=1.5"), "train.steps must be an integer, not '1.5'."),
        ((TOY, "--config.train.steps=inf"), "train.steps must be an integer, not 'inf'."),
        ((TOY, "--config.train.steps=1e10"), "must be at most 2147483647, not 10000000000."),
        ((TOY, "--config.train.steps=0x0"), "train.steps must be at least 1, not 0."),
        ((TOY, "--config.model.width"), "model.width must be an integer, not ''."),
        ((TOY, "--config.data.noise=inf"), "data.noise must be finite, not inf."),
        ((TOY, TOY), "--config is given 2 times: pass one config file."),
        ((NMT, "--config.batching.buckets=(1.5,24)"), "buckets must be an integer, not 1.5."),
        ((NMT, "--config.batching.buckets=(0,24)"), "buckets must be at least 1, not 0."),
        ((NMT, "--config.batching.buckets=()"), "batching.buckets must not be empty."),
        ((NMT, "--config.metrics=(1,)"), "each value of metrics must be text, not 1."),
        (
            (NMT, "--config.packing=3"),
            "packing is a section: write it as '{\"key\": value}', not 3.",
        ),
        (
            (NMT, "--config.packing={'rows': 0}"),
            "packing.rows must be at least 1, not 0.",
        ),
        (
            (NMT, "--config.packing={}", "--config.packing.rows=3"),
            "--config.packing contains packing.rows: set only one of the two.",
        ),
        ((TOY, "--config.train[0]=1"), "give the whole value, --config.train='(3,5)'."),
        (
            (NMT, "--config.label_smoothing=1.5"),
            "label_smoothing must be between 0 and 1, not 1.5.",
        ),
        (
            (NMT, "--config.model.dropout=1"),
            "model.dropout must be at least 0 and less than 1, not 1.0.",
        ),
        (
            (TOY, "--config.optimizer.b1=1.5"),
            "optimizer.b1 must be at least 0 and less than 1, not 1.5.",
        ),
        ((NMT, "--config.train.average=0"), "train.average must be at least 1, not 0."),
        (
            (TOY, "--config.seed=4294967296"),
            "seed must be between 0 and 4294967295, not 4294967296.",
        ),
    ],
)
def test_invalid_flags_are_rejected(flags, message, monkeypatch):
    monkeypatch.chdir(ROOT)
    with pytest.raises(UserError) as error:
        cli.check_config_flags(["train.py", *flags])
    assert str(error.value).endswith(message)


def test_valid_flags_are_accepted(monkeypatch):
    monkeypatch.chdir(ROOT)
    flags = ("--config.train.steps=4", "--config.mesh.fsdp", "-1")
    cli.check_config_flags(["train.py", TOY, *flags, "--config.optimizer.warmup_steps=0"])


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        (["--config=tests/toy.py", "--config.train.step=4"], "no key 'train.step'. Did you mean"),
        (["--config=tests/toy.py", "--confg.x=4"], "Unknown command line flag 'confg.x'"),
        (["# no config"], "No config: pass --config=configs/NAME.py."),
        (["--flagfile=nowhere.txt"], "No such file or directory: 'nowhere.txt': check --flagfile."),
        (["--config=\xff"], "codec can't decode byte 0xff"),
    ],
)
def test_errors_in_a_flag_file_are_one_line(lines, message, tmp_path):
    (file := tmp_path / "flags.txt").write_bytes("\n".join(lines).encode("latin-1"))
    done = run_in_process("train.py", f"--flagfile={file}", f"--workdir={tmp_path / 'run'}")
    assert (done.code, done.output, done.errors.count("\n")) == (2, "", 1)
    assert message in done.errors and not (tmp_path / "run").exists()


def test_flag_file_sets_config_and_values(tmp_path):
    start_run(toy_config(), tmp_path)
    (file := tmp_path / "flags.txt").write_text(f"{TOY}\n--config.seed=7\n--workdir={tmp_path}\n")
    done = run_in_process("train.py", f"--flagfile={file}")
    assert "seed was 0 and is now 7" in done.errors


def test_tilde_at_the_start_of_a_value_is_expanded(monkeypatch):
    monkeypatch.setenv("HOME", "/home/me")
    line = ["x.py", "--dir=~/runs", "--text=~ of 3=~/4", "--dir", "~/runs"]
    with pytest.raises(SystemExit):
        cli.parse_flags(line, lambda argv: sys.exit())
    assert line == ["x.py", "--dir=/home/me/runs", *line[2:]] and line[2] == "--text=~ of 3=~/4"


@pytest.mark.parametrize("text", ["def get_config(:", "import missing_module", "assert False"])
def test_errors_of_a_config_file_name_the_file(text, tmp_path):
    (path := tmp_path / "no config.py").write_text(text)
    with pytest.raises(UserError, match=f"^{path}: [^\n]+$"):
        cli.check_config_flags(["train.py", f"--config={path}"])


def test_config_items_have_full_keys():
    assert {"train", "train.steps", "name"} <= dict(cli.config_items(toy.get_config())).keys()


def test_bounds_apply_to_keys_of_configs():
    files = [*ROOT.glob("configs/*.py"), *ROOT.glob("configs/launchers/*.py")]
    configs = [cli.load_config(str(file)) for file in files if file.stem != "__init__"]
    keys = {key.split(".")[-1] for config in configs for key, _ in cli.config_items(config)}
    keys |= {key for options in SEARCHES.values() for key in options}  # of the section `search`
    assert keys >= cli.ZERO_ALLOWED | cli.UPPER_BOUNDS.keys()


@pytest.mark.parametrize(
    "name, reason",
    [
        ("jax_enable_x64", "the config sets the dtypes"),
        ("jax_disable_jit", "steps are compiled in advance"),
    ],
)
def test_entry_points_ignore_flags_of_jax_that_training_does_not_support(name, reason, capsys):
    jax.config.update(name, True)
    try:
        run.ignore_jax_flags()
        assert capsys.readouterr().err == f"note: {name.upper()} is ignored: {reason}.\n"
        run.ignore_jax_flags()
        assert capsys.readouterr().err == ""
        assert not getattr(jax.config, name)
    finally:
        jax.config.update(name, False)


# Exit codes.


def test_invalid_flag_exits_with_code_2_and_one_line(tmp_path):
    done = run_in_process("train.py", TOY, f"--workdir={tmp_path}", "--config.train.step=4")
    assert done.code == 2 and done.output == ""
    assert done.errors == "error: --config has no key 'train.step'. Did you mean 'train.steps'?\n"


def test_keyboard_interrupt_exits_with_code_130(capsys):
    def function():
        raise KeyboardInterrupt

    assert cli.run_main(function) == 130
    assert capsys.readouterr().err == "Interrupted; run the same command again to continue.\n"


def test_full_disk_exits_with_code_2(capsys):
    def function():
        with open("/dev/full", "w", encoding="utf-8") as file:
            file.write("x")

    assert cli.run_main(function) == 2
    assert "Cannot write to disk: No space left on device; free" in capsys.readouterr().err


def test_file_without_permission_is_named(capsys):
    def function():
        raise PermissionError(13, "Permission denied", "runs/x/.lock")

    assert cli.run_main(function) == 2
    message = "Cannot access runs/x/.lock: Permission denied; restore access to it and run"
    assert message in capsys.readouterr().err


# Tasks.


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("tranlation", "There is no task 'tranlation'."),
        ("tasks.nothing", "There is no task 'tasks.nothing'."),
        ("tests.commands", "'tests.commands' is not a task: "),
    ],
)
def test_unknown_task_is_rejected(name, message, tmp_path):
    import tasks

    config = toy_config()
    config.task = name
    with pytest.raises(UserError, match=message):
        tasks.build(config, str(tmp_path))
