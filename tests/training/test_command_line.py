"""Validation of flags, configs, run directories and records."""

import json
import re
import sys

import jax
import pytest

from tasks.pointing.search import SEARCHES
from tests import toy
from tests.commands import ROOT, run_in_process
from tests.training.runs import toy_config
from training import cli, metric_writer, run
from training.errors import UserError

# ml_collections loads config files with a method that is deprecated in Python 3.12.
pytestmark = pytest.mark.filterwarnings("ignore:the load_module:DeprecationWarning")
TOY = "--config=tests/toy.py"
NMT = "--config=configs/transformer_nmt.py:smoke"


def start_run(config, workdir):
    """Create a run directory with the first file that training writes."""
    run.open_workdir(config, str(workdir))
    (workdir / "metrics.jsonl").touch()


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


# Run directories.


def test_directory_without_results_may_be_reused_with_any_config(tmp_path):
    run.open_workdir(toy_config(optimizer__learning_rate=0.1), str(tmp_path))
    run.open_workdir(toy_config(optimizer__learning_rate=0.5), str(tmp_path))
    assert json.loads((tmp_path / "config.json").read_text())["optimizer"]["learning_rate"] == 0.5


def test_config_of_an_earlier_run_is_completed(tmp_path):
    start_run(toy_config(), tmp_path)
    config = toy_config()
    with config.unlocked():
        config.option = "new"
    with pytest.raises(UserError, match="option was 'absent' and is now 'new'"):
        run.open_workdir(config, str(tmp_path))
    with pytest.raises(UserError, match="option was 'old' and is now 'new'"):
        run.open_workdir(config, str(tmp_path), lambda old: old | {"option": "old"})
    run.open_workdir(config, str(tmp_path), lambda old: old | {"option": "new"})


def test_run_of_another_task_is_rejected_without_completing_it(tmp_path):
    start_run(toy_config(), tmp_path)
    config = toy_config()
    config.task = "memory"
    with pytest.raises(UserError, match="task was 'tests.toy' and is now 'memory'"):
        run.open_workdir(config, str(tmp_path), lambda old: pytest.fail("completed"))


def test_run_without_rows_and_with_other_printed_values_is_resumed(tmp_path):
    """Both are for the reader and do not affect the training."""
    start_run(toy_config(), tmp_path)
    config = toy_config()
    with config.unlocked():
        config.rows = ("a2017/table 1/x",)
        config.paper = {"test/error": 0.25, "test/perplexity": 4.0}
    run.open_workdir(config, str(tmp_path))
    assert run.read_config(str(tmp_path)) == config.lock()


def test_different_config_is_rejected_naming_the_key_and_both_values(tmp_path):
    start_run(toy_config(), tmp_path)
    with pytest.raises(UserError, match="optimizer.learning_rate was 0.01 and is now 0.5"):
        run.open_workdir(toy_config(optimizer__learning_rate=0.5), str(tmp_path))
    with pytest.raises(UserError, match="30; the run has no checkpoint: remove the directory"):
        run.open_workdir(toy_config(train__steps=30), str(tmp_path))
    (tmp_path / "weights.safetensors").touch()
    with pytest.raises(UserError, match="train.steps was 40 and is now 30; use a different"):
        run.open_workdir(toy_config(train__steps=30), str(tmp_path))
    assert json.loads((tmp_path / "config.json").read_text())["optimizer"]["learning_rate"] == 0.01


def test_more_steps_other_devices_or_another_best_metric_are_accepted(tmp_path):
    start_run(toy_config(), tmp_path)
    changes = {"train__best": "dev/cost", "train__best_mode": "max", "train__log_every": 9}
    run.open_workdir(toy_config(train__steps=50, mesh__fsdp=2, **changes), str(tmp_path))
    written = json.loads((tmp_path / "config.json").read_text())["train"]
    assert written["steps"] == 50 and written["best"] == "dev/cost"


def test_files_of_weights_may_move_but_not_disappear(tmp_path):
    """With Inception's weights, the metrics are others than with a trained classifier."""

    def config(path):
        config = toy_config()
        with config.unlocked():
            config.evaluation = {"inception_weights": path}
        return config

    start_run(config("/a/inception.pth"), tmp_path)
    run.open_workdir(config("/b/inception.pth"), str(tmp_path))
    with pytest.raises(UserError, match="inception_weights was '/b/inception.pth' and is now ''"):
        run.open_workdir(config(""), str(tmp_path))


def test_initial_weights_may_move_but_not_disappear(tmp_path):
    def open_with(path):
        run.open_workdir(toy_config(train__init_from=path), str(tmp_path))

    open_with("/a/first.safetensors")
    (tmp_path / "metrics.jsonl").touch()
    open_with("/b/first.safetensors")
    with pytest.raises(UserError, match="train.init_from was '/b/first.safetensors' and is now"):
        open_with("none")


def test_directory_of_a_rejected_run_is_reused_while_another_host_writes(tmp_path):
    run.open_workdir(toy_config(), str(tmp_path))
    for name in (".writable", ".config.json.1234", "log.txt"):
        (tmp_path / name).touch()
    run.check_same_config(toy_config(optimizer__learning_rate=0.5), str(tmp_path))
    run.check_same_config(toy_config(), str(tmp_path / "absent"))


def test_cosine_schedule_cannot_be_extended(tmp_path):
    from configs import transformer_nmt

    config = transformer_nmt.get_config("smoke")
    start_run(config, tmp_path)
    config.train.steps = 6
    with pytest.raises(UserError, match="ends at step 4, so the run cannot be extended"):
        run.open_workdir(config, str(tmp_path))


def test_run_with_a_constant_learning_rate_can_be_extended(tmp_path):
    """The config sets `optimizer.steps` to `train.steps`, but the schedule ignores it."""
    from configs import transformer_nmt

    config = transformer_nmt.get_config("smoke")
    config.optimizer.schedule = "constant"
    start_run(config, tmp_path)
    config.train.steps += 2
    run.open_workdir(config, str(tmp_path))
    assert run.read_config(str(tmp_path)).optimizer.steps == config.train.steps


def test_decay_of_the_entropy_weight_cannot_be_extended(tmp_path):
    from configs import snail_bandits

    config = snail_bandits.get_config("smoke")
    config.optimizer.schedule = "constant"
    start_run(config, tmp_path)
    config.train.steps += 2
    with pytest.raises(UserError, match="ppo.entropy_steps was 4 and is now 6"):
        run.open_workdir(config, str(tmp_path))
    config.ppo.entropy_steps = 4
    run.open_workdir(config, str(tmp_path))


@pytest.mark.parametrize("workdir", ["/proc/run", "file/run"])
def test_unwritable_directory_is_rejected(tmp_path, workdir, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match=f"Cannot write to {workdir}: "):
        run.open_workdir(toy_config(), workdir)


@pytest.mark.parametrize("name, is_file", [("tensorboard", True), ("metrics.jsonl", False)])
def test_occupied_name_in_the_run_directory_is_named(name, is_file, tmp_path):
    path = tmp_path / name
    path.touch() if is_file else path.mkdir()
    done = run_in_process("train.py", TOY, f"--workdir={tmp_path}")
    assert done.code == 2
    assert re.search(rf"error: Cannot write \S*{name}\S*: .*; rename or remove it", done.errors)


def test_directory_is_locked_against_a_second_process(tmp_path):
    run.open_workdir(toy_config(), str(tmp_path))
    with run.lock_workdir(str(tmp_path)):
        done = run_in_process("train.py", TOY, f"--workdir={tmp_path}", "--config.train.steps=50")
    assert done.output == ""
    assert done.errors.startswith(f"error: Another process is training in {tmp_path}: ")
    assert json.loads((tmp_path / "config.json").read_text())["train"]["steps"] == 40
    with run.lock_workdir(str(tmp_path)):
        pass


# Records.


@pytest.mark.parametrize("name", [run.CONFIG, run.SUMMARY])
@pytest.mark.parametrize("content", [b"", b"[1, 2]", b"{}", b'{"name": "M\xfc'])
def test_corrupted_json_is_named(name, content, tmp_path):
    run.open_workdir(toy_config(), str(tmp_path))
    (tmp_path / name).write_bytes(content)
    with pytest.raises(UserError, match=f"{name} is corrupted: restore it or remove it"):
        (run.read_config if name == run.CONFIG else run.read_summary)(str(tmp_path))


@pytest.mark.parametrize("change", [{"steps": "4"}, {"metrics": None}, {"paper": []}])
def test_json_that_is_no_summary_is_named(change, tmp_path):
    run.write_summary(str(tmp_path), toy_config(), {"test/error": 1.0}, 4, 2.0)
    summary = run.read_summary(str(tmp_path))
    assert summary["steps"] == 4
    (tmp_path / run.SUMMARY).write_text(json.dumps(summary | change))
    with pytest.raises(UserError, match="is not the summary of a run: remove it and run again"):
        run.read_summary(str(tmp_path))


def test_corrupted_lines_of_metrics_are_skipped(tmp_path):
    lines = [b'{"step": 1, "loss": 2}', b"3", b'{"loss": 2}', b'{"step": 2, "\xff', b'{"step": 3}']
    (tmp_path / metric_writer.FILENAME).write_bytes(b"\n".join(lines))
    assert [line["step"] for line in metric_writer.read(str(tmp_path))] == [1, 3]


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
