"""Resumed runs equal uninterrupted runs bitwise."""

import contextlib
import os
import random
import shutil
import signal
import subprocess
import sys
import time

import jax
import pytest
from jax.experimental.compilation_cache.compilation_cache import reset_cache

from tests import toy
from tests.commands import ROOT
from tests.training.runs import (
    assert_trees_equal,
    final_metrics,
    logged_metrics,
    restore,
    start_training,
    toy_config,
    train,
    wait_for,
)
from training.errors import Interrupted
from training.loop import fit

SLEEP = "--config.data.sleep=0.02"  # per batch, so that a process can be killed before it ends
CONFIG = toy_config(data__sleep=0.02)


@pytest.fixture(scope="module", autouse=True)
def no_compilation_cache():
    """Compile in every process: a cached program may be for another number of cores."""
    enabled = jax.config.jax_enable_compilation_cache
    jax.config.update("jax_enable_compilation_cache", False)
    reset_cache()
    yield
    jax.config.update("jax_enable_compilation_cache", enabled)
    reset_cache()


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory):
    workdir = tmp_path_factory.mktemp("uninterrupted")
    train(toy_config(), workdir)
    return workdir


def assert_runs_equal(workdir, expected):
    for which in ("latest", "average"):
        assert_trees_equal(
            restore(workdir, CONFIG, which).state, restore(expected, CONFIG, which).state
        )
    assert logged_metrics(workdir) == logged_metrics(expected)
    assert final_metrics(workdir) == final_metrics(expected)


@pytest.mark.parametrize("kills", [3, pytest.param(20, marks=pytest.mark.slow)])
def test_stopped_and_killed_run_equals_uninterrupted_run(tmp_path, kills):
    """One SIGTERM, then repeatedly two kills during a save and one at a random time."""
    rng = random.Random(kills)
    workdir, killed, during_save = tmp_path / "killed", 0, 0
    uninterrupted = tmp_path / "uninterrupted"
    output, errors = start_training(uninterrupted).communicate()
    assert "Finished" in output, errors

    def unfinished_saves():
        return set(workdir.glob("checkpoints/*.orbax-checkpoint-tmp*"))

    process = start_training(workdir, SLEEP)
    wait_for(lambda: logged_metrics(workdir), process)  # step 5, between two checkpoints
    process.send_signal(signal.SIGTERM)
    errors = process.communicate()[1]
    assert process.returncode == 128 + signal.SIGTERM
    assert "saved a checkpoint; run the same command again to resume." in errors
    assert "Traceback" not in errors
    while killed < kills:
        process = start_training(workdir, SLEEP)
        lines, old = len(logged_metrics(workdir)), unfinished_saves()
        if killed % 3 < 2:
            wait_for(lambda old=old: unfinished_saves() - old, process)
            time.sleep(rng.uniform(0, 0.02))
        else:
            wait_for(lambda lines=lines: len(logged_metrics(workdir)) != lines, process)
            time.sleep(rng.uniform(0, 0.4))
        process.kill()
        process.communicate()
        if process.returncode == -signal.SIGKILL:
            killed += 1
            during_save += bool(unfinished_saves())
        if (workdir / "summary.json").exists():  # the run finished before the kill: start again
            assert_runs_equal(workdir, uninterrupted)
            shutil.rmtree(workdir)
    output, errors = start_training(workdir, SLEEP).communicate()
    assert "Finished" in output, errors
    assert_runs_equal(workdir, uninterrupted)
    print(f"{during_save} of {killed} kills happened during a save")
    assert during_save > 0


@pytest.mark.parametrize("nohup", [False, True])
def test_closed_terminal_stops_the_run_unless_nohup_is_used(tmp_path, nohup):
    controller, terminal = os.openpty()
    name, workdir = os.ttyname(terminal), tmp_path / "run"
    train_py = f"{sys.executable} train.py --config=tests/toy.py --workdir={workdir} {SLEEP}"
    output = tmp_path / "log.txt" if nohup else name
    script = f"exec {'nohup' * nohup} {train_py} <{name} >{output} 2>&1"
    env = os.environ | {"JAX_PLATFORMS": "cpu"}
    previous = signal.signal(signal.SIGHUP, signal.SIG_DFL)  # pytest itself may run under nohup
    # The first terminal that a new session opens becomes its controlling terminal, whose closing
    # sends SIGHUP to the session.
    process = subprocess.Popen(["sh", "-c", script], cwd=ROOT, env=env, start_new_session=True)
    signal.signal(signal.SIGHUP, previous)
    os.set_blocking(controller, False)

    def started():
        with contextlib.suppress(BlockingIOError):
            os.read(controller, 4096)  # otherwise the process blocks on a full buffer
        return logged_metrics(workdir)

    wait_for(started, process)
    os.close(terminal)
    os.close(controller)
    assert process.wait(60) == (0 if nohup else 128 + signal.SIGHUP)
    step = restore(workdir, CONFIG).record["step"]
    assert step == 40 if nohup else 5 <= step < 40


class SelfInterrupting(toy.Toy):
    """Toy task that sends SIGINT to its own process while it generates batch 33."""

    def batch(self, seed):
        if seed == 33:
            signal.raise_signal(signal.SIGINT)
        return super().batch(seed)


def test_checkpoint_of_an_interrupted_run_is_not_averaged(uninterrupted, tmp_path):
    config = toy_config()
    with pytest.raises(Interrupted, match="of 40 and saved"):
        fit(SelfInterrupting(config), config, str(tmp_path))
    train(config, tmp_path)
    assert_runs_equal(tmp_path, uninterrupted)


class InterruptedEvaluation(toy.Toy):
    """Toy task that sends SIGINT to its own process in the dev evaluation of the last step."""

    def evaluate(self, state, split):
        if split == "dev" and state.step == self.config.train.steps:
            signal.raise_signal(signal.SIGINT)
        return super().evaluate(state, split)


def test_signal_in_the_last_evaluation_stops_the_run_before_its_test(uninterrupted, tmp_path):
    config = toy_config()
    with pytest.raises(Interrupted, match="Stopped after the last step, 40"):
        fit(InterruptedEvaluation(config), config, str(tmp_path))
    assert not (tmp_path / "summary.json").exists()
    train(config, tmp_path)
    assert_runs_equal(tmp_path, uninterrupted)


def test_finished_run_is_not_repeated_but_can_be_extended(uninterrupted, tmp_path, capsys):
    config = toy_config(train__steps=20)
    summary = train(config, tmp_path)
    capsys.readouterr()
    assert train(config, tmp_path) == summary
    assert "is already finished" in capsys.readouterr().out
    train(toy_config(), tmp_path)
    assert_trees_equal(restore(tmp_path, CONFIG).state, restore(uninterrupted, CONFIG).state)
