"""A run that is killed, stopped or damaged goes on as if nothing had happened."""

import contextlib
import os
import random
import shutil
import signal
import subprocess
import sys
import time

import pytest

from tests import toy
from tests.training.runs import (
    ROOT,
    assert_equal,
    measures,
    record,
    restore,
    small,
    start,
    train,
    wait_for,
)
from training.errors import Interrupted, UserError
from training.loop import fit

SLOW = ("--config.data.sleep=0.02",)  # so that there is time to be killed in
CONFIG = small(data__sleep=0.02)


def assert_same_run(one, other):
    assert_equal(restore(one, CONFIG).state, restore(other, CONFIG).state)
    assert_equal(restore(one, CONFIG, "average").state, restore(other, CONFIG, "average").state)
    assert record(one) == record(other)
    assert measures(one) == measures(other)


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory):
    workdir = tmp_path_factory.mktemp("uninterrupted")
    process = start(workdir, *SLOW)
    assert "Finished" in process.communicate()[0]
    return workdir


@pytest.mark.parametrize("kills", [3, pytest.param(20, marks=pytest.mark.slow)])
def test_stopped_and_killed_equals_uninterrupted(uninterrupted, tmp_path, kills):
    """One SIGTERM, then kills: of three two fall into a save, the third anywhere."""
    rng = random.Random(kills)
    workdir, killed, during_save = tmp_path / "killed", 0, 0

    def saving():
        return set(workdir.glob("checkpoints/*.orbax-checkpoint-tmp*"))

    process = start(workdir, *SLOW)
    wait_for(lambda: record(workdir), process)  # step 5 is done, between two checkpoints
    process.send_signal(signal.SIGTERM)
    errors = process.communicate()[1]
    assert process.returncode == 128 + signal.SIGTERM
    assert "saved; the same command resumes." in errors and "Traceback" not in errors
    while killed < kills:
        process = start(workdir, *SLOW)
        lines, old = len(record(workdir)), saving()
        if killed % 3 < 2:
            wait_for(lambda old=old: saving() - old, process)
            time.sleep(rng.uniform(0, 0.02))
        else:
            wait_for(lambda lines=lines: len(record(workdir)) != lines, process)
            time.sleep(rng.uniform(0, 0.4))
        process.kill()
        process.communicate()
        if process.returncode == -signal.SIGKILL:
            killed += 1
            during_save += bool(saving())
        if (workdir / "summary.json").exists():  # it went all the way: begin anew
            assert_same_run(uninterrupted, workdir)
            shutil.rmtree(workdir)
    output, errors = start(workdir, *SLOW).communicate()
    assert "Finished" in output, errors
    assert_same_run(uninterrupted, workdir)
    print(f"{during_save} of {killed} kills fell into a save")
    assert during_save > 0


@pytest.mark.parametrize("nohup", [False, True])
def test_a_terminal_that_is_closed_saves_first_unless_it_is_not_to_matter(tmp_path, nohup):
    ours, theirs = os.openpty()
    name, workdir = os.ttyname(theirs), tmp_path / "run"
    train_py = f"{sys.executable} train.py --config=tests/toy.py --workdir={workdir} {SLOW[0]}"
    log = tmp_path / "log.txt"
    output = log if nohup else name
    script = f"exec {'nohup' * nohup} {train_py} <{name} >{output} 2>&1"
    env = os.environ | {"JAX_PLATFORMS": "cpu"}
    before = signal.signal(signal.SIGHUP, signal.SIG_DFL)  # we may run under nohup ourselves
    # The first terminal that a session opens is its own, and tells it when it is closed.
    process = subprocess.Popen(["sh", "-c", script], cwd=ROOT, env=env, start_new_session=True)
    signal.signal(signal.SIGHUP, before)
    os.set_blocking(ours, False)

    def has_begun():
        with contextlib.suppress(BlockingIOError):
            os.read(ours, 4096)  # or it would wait for room
        return record(workdir)

    wait_for(has_begun, process)
    os.close(theirs)
    os.close(ours)
    assert process.wait(60) == (0 if nohup else 128 + signal.SIGHUP)
    step = restore(workdir, CONFIG).record["step"]
    assert step == 40 if nohup else 5 <= step < 40


class Stopping(toy.Toy):
    """The toy, which sends its own process a signal with batch 33."""

    def batch(self, seed):
        if seed == 33:
            signal.raise_signal(signal.SIGINT)
        return super().batch(seed)


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """An uninterrupted run of this process."""
    workdir = tmp_path_factory.mktemp("whole")
    train(small(), workdir)
    return workdir


def test_stopping_between_checkpoints_takes_no_part_in_the_average(whole, tmp_path):
    config = small()
    with pytest.raises(Interrupted, match="of 40, saved"):
        fit(Stopping(config), config, str(tmp_path))
    train(config, tmp_path)
    assert_equal(
        restore(whole, config, "average").state, restore(tmp_path, config, "average").state
    )
    assert measures(whole) == measures(tmp_path)


def test_more_steps_continue_a_finished_run(whole, tmp_path):
    train(small(train__steps=20), tmp_path)
    train(small(), tmp_path)
    assert_equal(restore(whole, small()).state, restore(tmp_path, small()).state)


def test_a_finished_run_is_only_shown(tmp_path, capsys):
    config = small(train__steps=10)
    first = train(config, tmp_path)
    capsys.readouterr()
    assert train(config, tmp_path) == first
    assert "This run is finished" in capsys.readouterr().out


def test_a_nan_stops_with_step_and_batch_and_keeps_the_last_good_checkpoint(tmp_path):
    config = small(data__poison=26)
    with pytest.raises(
        UserError, match=r"loss is nan at step 27 \(batch 26\).*checkpoint 20, the last good one"
    ):
        train(config, tmp_path)
    restored = restore(tmp_path, config)
    assert restored.record["step"] == 20 and restored.notice == ""


def test_a_nan_on_a_saving_step_is_not_saved(tmp_path):
    config = small(data__poison=29)
    with pytest.raises(UserError, match="at step 30"):
        train(config, tmp_path)
    assert restore(tmp_path, config).record["step"] == 20


def test_a_broken_figure_loses_nothing(tmp_path, capsys):
    summary = train(small(train__steps=10, data__bad_figure=True), tmp_path)
    assert summary["metrics"].keys() == {"test/error"}
    assert "A figure could not be drawn: ValueError: no ink" in capsys.readouterr().out
