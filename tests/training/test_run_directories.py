"""Validation of run directories and of the records in them."""

import json
import re

import pytest

from tests.commands import run_in_process
from tests.training.runs import start_run, toy_config
from training import metric_writer, run
from training.errors import UserError

# ml_collections loads config files with a method that is deprecated in Python 3.12.
pytestmark = pytest.mark.filterwarnings("ignore:the load_module:DeprecationWarning")
TOY = "--config=tests/toy.py"


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
