"""The training loop: use from Python, divergence, errors in figures."""

import json
from pathlib import Path

import pytest

import tasks
from tests.toy import get_config
from tests.training.runs import restore, toy_config, train
from training.errors import UserError
from training.loop import fit


def test_fit_works_without_the_command_line(tmp_path):
    workdir = str(tmp_path / "run")
    config = get_config()
    config.train.update(steps=10, eval_every=10)

    task = tasks.build(config, workdir)
    summary = fit(task, config, workdir)

    assert summary == json.loads(Path(workdir, "summary.json").read_text(encoding="utf-8"))
    assert summary["steps"] == 10
    assert summary["metrics"].keys() == {"dev/error", "test/error"}


def test_nan_stops_the_run_and_names_step_batch_and_last_checkpoint(tmp_path):
    config = toy_config(data__nan_step=26)
    with pytest.raises(
        UserError,
        match=r"loss is nan at step 27 \(batch 26\).*the last checkpoint is at step 20\.",
    ):
        train(config, tmp_path)
    restored = restore(tmp_path, config)
    assert restored.record["step"] == 20 and restored.message == ""


def test_nan_at_a_checkpoint_step_is_not_saved(tmp_path):
    config = toy_config(data__nan_step=29)
    with pytest.raises(UserError, match="at step 30"):
        train(config, tmp_path)
    assert restore(tmp_path, config).record["step"] == 20


def test_error_in_a_figure_does_not_end_the_run(tmp_path, capsys):
    summary = train(toy_config(train__steps=10, data__fail_figures=True), tmp_path)
    assert summary["metrics"].keys() == {"test/error"}
    assert "Cannot create the figures: ValueError: no figure" in capsys.readouterr().out
