"""Checkpoints: detection of corruption and write errors, retention, averaging."""

import contextlib
import shutil
import sys
import types
import warnings
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import orbax.checkpoint as ocp
import pytest

from tests.training.runs import assert_trees_equal, open_checkpoints, restore, toy_config, train
from training import metric_writer
from training.checkpoints import Checkpoints
from training.errors import UserError
from training.state import checksums


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    workdir = tmp_path_factory.mktemp("finished")
    train(toy_config(), workdir)
    return workdir


@pytest.fixture
def copy(finished, tmp_path):
    shutil.copytree(finished, tmp_path / "copy")
    return tmp_path / "copy"


def files_of(workdir, step):
    return sorted(p for p in (workdir / "checkpoints" / str(step)).rglob("*") if p.is_file())


def corrupt(path, how):
    data = path.read_bytes()
    if how == "truncated":
        path.write_bytes(data[: len(data) // 2])
    elif how == "deleted":
        path.unlink()
    else:
        middle = len(data) // 2
        path.write_bytes(data[:middle] + bytes([data[middle] ^ 1]) + data[middle + 1 :])


@pytest.mark.parametrize("how", ["truncated", "deleted", "one bit flipped"])
def test_corruption_of_any_file_is_harmless_or_detected(finished, copy, how):
    """Either the state is bitwise correct, or the previous checkpoint is used and reported."""
    expected = restore(finished, toy_config()).state
    detected = 0
    for path in files_of(copy, 40):
        original = path.read_bytes()
        corrupt(path, how)
        restored = restore(copy, toy_config())
        if restored.record["step"] == 40:
            assert_trees_equal(restored.state, expected)
        else:
            assert restored.record["step"] == 30
            assert restored.message.startswith("Checkpoint 40 is corrupted (")
            assert restored.message.endswith("); using checkpoint 30 instead.")
            detected += 1
        path.write_bytes(original)
    assert detected > 0


@pytest.mark.parametrize(
    "error",
    [PermissionError(13, "Permission denied"), ValueError("x [os_error_code='5']")],
    ids=["Python", "TensorStore"],
)
def test_checkpoint_that_cannot_be_read_is_not_taken_for_a_corrupted_one(copy, error, monkeypatch):
    """Otherwise the training would delete it and continue from an earlier checkpoint."""

    def fail(self, step, args):
        raise error

    monkeypatch.setattr(ocp.CheckpointManager, "restore", fail)
    with pytest.raises(UserError, match="Cannot read checkpoint 40 in .*: restore access to"):
        restore(copy, toy_config())
    assert files_of(copy, 40)


def test_flipped_bit_in_a_large_array_is_detected(tmp_path):
    """TensorStore verifies its index and small arrays, but not the files of large arrays."""
    config = toy_config(train__average=1).train
    state = {"w": jnp.arange(100_000.0)}
    checkpoints = Checkpoints.from_config(str(tmp_path), config)
    for step in (10, 20):
        checkpoints.save(step, state, jax.random.key(0), 0.0)
    checkpoints.wait()
    largest = max(files_of(tmp_path, 20), key=lambda path: path.stat().st_size)
    assert largest.stat().st_size > 100_000
    corrupt(largest, "one bit flipped")
    abstract = jax.tree.map(
        lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=x.sharding), state
    )
    restored = checkpoints.restore(abstract)
    checkpoints.close()
    assert restored.record["step"] == 10
    assert restored.message.startswith("Checkpoint 20 is corrupted (its arrays do not match")


def test_reading_a_valid_checkpoint_leaves_hook_and_warning_filters_unchanged(finished):
    hook, filters = sys.unraisablehook, warnings.filters[:]
    restore(finished, toy_config())
    assert sys.unraisablehook is hook and warnings.filters == filters


def test_restore_fails_if_all_checkpoints_are_corrupted(copy):
    for step in (20, 30, 40):
        for path in files_of(copy, step):
            corrupt(path, "truncated")
    with pytest.raises(UserError, match="All checkpoints in .* are corrupted"):
        restore(copy, toy_config())


def abstract_of(state):
    return jax.tree.map(
        lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=x.sharding), state
    )


def test_average_fails_if_all_checkpoints_are_corrupted(finished, copy):
    for step in (20, 30, 40):
        for path in files_of(copy, step):
            corrupt(path, "truncated")
    with contextlib.closing(open_checkpoints(copy, toy_config())) as checkpoints:
        abstract = abstract_of(restore(finished, toy_config()).state)
        with pytest.raises(UserError, match="All checkpoints to average in .* are corrupted"):
            checkpoints.average(abstract)


def test_training_resumes_from_the_checkpoint_before_a_corrupted_checkpoint(finished, copy, capsys):
    for path in files_of(copy, 40):
        corrupt(path, "truncated")
    (copy / "summary.json").unlink()
    train(toy_config(), copy)
    assert "Checkpoint 40 is corrupted" in capsys.readouterr().out
    assert_trees_equal(restore(copy, toy_config()).state, restore(finished, toy_config()).state)


def test_best_checkpoint_of_a_metric_that_no_checkpoint_has_is_the_latest(finished):
    restored = restore(finished, toy_config(train__best="dev/nope"), "best")
    assert restored.record["step"] == 40
    assert restored.message == "No checkpoint has been evaluated by dev/nope; using the latest."
    assert not restore(finished, toy_config(), "best").message


def test_incomplete_checkpoint_is_reported(copy):
    newest = copy / "checkpoints" / "40"
    newest.rename(newest.with_name("40.orbax-checkpoint-tmp"))
    restored = restore(copy, toy_config())
    assert restored.record["step"] == 30
    assert restored.message == "Checkpoint 40 is incomplete; using checkpoint 30 instead."


def test_average_is_the_mean_of_the_latest_checkpoints(finished):
    mean = restore(finished, toy_config(), "average").state.params
    abstract = abstract_of(restore(finished, toy_config()).state)
    checkpoints = open_checkpoints(finished, toy_config())
    params = [checkpoints._read(step, abstract)[0].params for step in (30, 40)]
    checkpoints.close()
    for a, b, c in zip(*map(jax.tree.leaves, (mean, *params)), strict=True):
        np.testing.assert_allclose(a, np.mean([b, c], axis=0), rtol=1e-6, atol=1e-7)


def test_latest_regular_and_best_checkpoints_are_kept(tmp_path):
    checkpoints = Checkpoints(
        str(tmp_path),
        steps=44,
        checkpoint_every=10,
        keep=2,
        average=1,
        best="dev/x",
        best_mode="max",
    )
    state = {"a": jnp.arange(4.0)}
    for step, x in [(10, 1.0), (20, 9.0), (30, 3.0), (33, None), (40, 2.0), (44, None)]:
        checkpoints.save(step, state, jax.random.key(0), 0.0)
        if x:
            checkpoints.record_metrics(step, {"dev/x": x})
    checkpoints.wait()
    assert checkpoints.steps() == [20, 40, 44]
    abstract = {"a": jax.ShapeDtypeStruct((4,), jnp.float32, sharding=state["a"].sharding)}
    assert checkpoints.restore(abstract, "best").record["step"] == 20
    checkpoints.close()


class State(NamedTuple):
    params: Any


def test_checkpoint_of_an_interrupted_run_is_averaged_only_if_there_is_no_other(tmp_path):
    key, states = jax.random.key(0), {n: State(jnp.full(4, float(n))) for n in (3, 10, 20, 23)}
    train = toy_config(train__keep=2).train  # checkpoints at multiples of 10, averages 2
    averages = {}
    with contextlib.closing(Checkpoints.from_config(str(tmp_path), train)) as checkpoints:
        for step, state in states.items():
            checkpoints.save(step, state, key, 0.0)
            checkpoints.wait()
            restored = checkpoints.restore(abstract_of(state), "average")
            averages[step] = float(restored.state.params[0]), restored.message
        assert checkpoints.steps() == [10, 20, 23]
    assert averages[3] == (3.0, "Parameters are averaged over checkpoints 3.")
    assert averages[10] == (10.0, "Parameters are averaged over checkpoints 10.")
    assert (
        averages[23] == averages[20] == (15.0, "Parameters are averaged over checkpoints 10, 20.")
    )


def test_best_checkpoint_of_an_earlier_process_is_kept(finished, copy):
    errors = {
        line["step"]: line["dev/error"]
        for line in metric_writer.read(str(finished))
        if "dev/error" in line
    }
    assert (min(errors, key=errors.get), max(errors, key=errors.get)) == (40, 20)
    worst = toy_config(train__best_mode="max", train__steps=60)
    assert restore(finished, toy_config(), "best").record["step"] == 40
    assert restore(finished, worst, "best").record["step"] == 20
    train(worst, copy)
    checkpoints = open_checkpoints(copy, worst)
    assert checkpoints.steps() == [20, 40, 50, 60]
    checkpoints.close()


def test_unknown_best_metric_is_an_error(tmp_path):
    checkpoints = open_checkpoints(tmp_path, toy_config(train__best="dev/eror"))
    with pytest.raises(UserError, match="Did you mean 'dev/error'?"):
        checkpoints.record_metrics(20, {"dev/error": 1.0})
    checkpoints.close()


def test_keeping_fewer_checkpoints_than_averaged_is_an_error(tmp_path):
    with pytest.raises(UserError, match="keep must be at least 5 for train.average=5, not 3"):
        open_checkpoints(tmp_path, toy_config(train__average=5))


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16, jnp.int32, jnp.bool_])
def test_checksum_changes_with_every_bit_and_permutation(dtype):
    x = np.asarray(jnp.arange(24).reshape(2, 3, 4).astype(dtype))
    expected = checksums([x])
    for i in range(x.nbytes * 8):
        if dtype == jnp.bool_ and i % 8:
            continue
        raw = bytearray(x.tobytes())
        raw[i // 8] ^= 1 << (i % 8)
        assert checksums([np.frombuffer(bytes(raw), x.dtype).reshape(x.shape)]) != expected
    if dtype != jnp.bool_:
        assert checksums([x[:, ::-1].copy()]) != expected


# Writing.


@pytest.fixture
def unraisable(monkeypatch):
    """Unraisable errors that are reported, as by threads."""
    reported: list[Any] = []
    monkeypatch.setattr(sys, "unraisablehook", reported.append)
    return reported


def test_checkpoint_that_cannot_be_read_back_is_reported_after_the_first_save(tmp_path):
    """Orbax uses the path as a pattern, finds no files, and saves an empty checkpoint."""
    checkpoints = open_checkpoints(tmp_path / "run[2]", toy_config())
    with pytest.raises(UserError, match=r"Checkpoint 10 was written to .* cannot be read back \("):
        checkpoints.save(10, State(jnp.arange(4.0)), jax.random.key(0), 0.0)
    checkpoints.close()


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (ValueError("NOT: Failed to write [os_error_code='28']"), "No space left on device): free"),
        (OSError(28, "No space"), "No space left on device): free some disk space and run the"),
        (ValueError("RESOURCE_EXHAUSTED: bucket"), "RESOURCE_EXHAUSTED: bucket): free some disk"),
        (ValueError("X: [os_error_code='24']"), "Too many open files): restore access to it and"),
        (OSError(5, "I/O"), "Input/output error): restore access to it and run the same command"),
    ],
)
def test_write_error_is_one_sentence_without_messages_of_threads(
    error, message, tmp_path, monkeypatch, unraisable
):
    noise = types.SimpleNamespace(object=None, exc_value=RuntimeError("Event loop is closed"))

    def fail(self):
        sys.unraisablehook(noise)
        raise error

    checkpoints = open_checkpoints(tmp_path, toy_config())
    with monkeypatch.context() as patch:
        patch.setattr(ocp.CheckpointManager, "wait_until_finished", fail)
        with pytest.raises(UserError) as caught:
            checkpoints.save(10, State(jnp.arange(4.0)), jax.random.key(0), 0.0)
    checkpoints.close()
    sys.unraisablehook(noise)  # threads may end after the error has been reported
    assert unraisable == []
    assert str(caught.value).startswith(f"Cannot write a checkpoint to {tmp_path}/checkpoints (")
    assert message in str(caught.value)


def test_saving_leaves_the_hook_unchanged(tmp_path):
    hook = sys.unraisablehook
    checkpoints = open_checkpoints(tmp_path, toy_config())
    checkpoints.save(10, State(jnp.arange(4.0)), jax.random.key(0), 0.0)
    checkpoints.close()
    assert sys.unraisablehook is hook
