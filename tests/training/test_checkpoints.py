"""Checkpoints: damage is found, the right ones stay, averages are means."""

import shutil

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.training.runs import assert_equal, checkpoints_of, restore, small, train
from training import metric_writer
from training.checkpoints import Checkpoints, checksums
from training.errors import UserError


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    workdir = tmp_path_factory.mktemp("finished")
    train(small(), workdir)
    return workdir


@pytest.fixture
def copy(finished, tmp_path):
    shutil.copytree(finished, tmp_path / "copy")
    return tmp_path / "copy"


def files_of(workdir, step):
    return sorted(p for p in (workdir / "checkpoints" / str(step)).rglob("*") if p.is_file())


def damage(path, how):
    data = path.read_bytes()
    if how == "truncated":
        path.write_bytes(data[: len(data) // 2])
    elif how == "deleted":
        path.unlink()
    else:
        middle = len(data) // 2
        path.write_bytes(data[:middle] + bytes([data[middle] ^ 1]) + data[middle + 1 :])


@pytest.mark.parametrize("how", ["truncated", "deleted", "one bit flipped"])
def test_any_damage_to_the_newest_is_harmless_or_found(finished, copy, how):
    """File by file: either every bit of the state is right, or the one before is used and named."""
    good = {step: restore(finished, small()).state for step in (40,)}
    good[30] = None
    found = 0
    for path in files_of(copy, 40):
        original = path.read_bytes()
        damage(path, how)
        restored = restore(copy, small())
        if restored.record["step"] == 40:
            assert_equal(restored.state, good[40])
        else:
            assert restored.record["step"] == 30
            assert restored.notice.startswith("Checkpoint 40 is ")
            assert restored.notice.endswith("using 30 instead.")
            found += 1
        path.write_bytes(original)
    assert found > 0


def test_a_flipped_bit_in_a_large_array_is_found(tmp_path):
    """The storage checks what is small, not the files of large arrays: a bit becomes a weight."""
    config = small(model__width=4096, train__steps=20)
    train(config, tmp_path)
    largest = max(files_of(tmp_path, 20), key=lambda path: path.stat().st_size)
    assert largest.stat().st_size > 100_000
    damage(largest, "one bit flipped")
    restored = restore(tmp_path, config)
    assert restored.record["step"] == 10
    assert restored.notice.startswith("Checkpoint 20 is damaged (its arrays do not match")


def test_all_damaged_is_one_sentence(copy):
    for step in (20, 30, 40):
        for path in files_of(copy, step):
            damage(path, "truncated")
    with pytest.raises(UserError, match="can be read"):
        restore(copy, small())


def test_training_goes_on_from_the_one_before(finished, copy, capsys):
    for path in files_of(copy, 40):
        damage(path, "truncated")
    (copy / "summary.json").unlink()
    train(small(), copy)
    assert "Checkpoint 40 is damaged" in capsys.readouterr().out
    assert_equal(restore(copy, small()).state, restore(finished, small()).state)


def test_a_half_written_one_is_named(copy):
    newest = copy / "checkpoints" / "40"
    newest.rename(newest.with_name("40.orbax-checkpoint-tmp"))
    restored = restore(copy, small())
    assert restored.record["step"] == 30
    assert restored.notice == "Checkpoint 40 is only half written; using 30 instead."


def test_average_is_the_mean_of_the_last(finished):
    mean = restore(finished, small(), "average").state.params
    parts = []
    for step in (30, 40):
        checkpoints = checkpoints_of(finished, small())
        abstract = jax.tree.map(
            lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=x.sharding),
            restore(finished, small()).state,
        )
        parts.append(checkpoints._read(step, abstract)[0].params)
        checkpoints.close()
    for a, b, c in zip(*map(jax.tree.leaves, (mean, *parts)), strict=True):
        np.testing.assert_allclose(a, np.mean([b, c], axis=0), rtol=1e-6, atol=1e-7)


def test_newest_regular_and_best_stay(tmp_path):
    checkpoints = Checkpoints(
        str(tmp_path), checkpoint_every=10, keep=2, average=1, best="dev/x", best_mode="max"
    )
    state = {"a": jnp.arange(4.0)}
    for step, x in [(10, 1.0), (20, 9.0), (30, 3.0), (33, None), (40, 2.0), (44, None)]:
        checkpoints.save(step, state, jax.random.key(0), 0.0)
        if x:
            checkpoints.score(step, {"dev/x": x})
    checkpoints.wait()
    assert checkpoints.steps() == [20, 40, 44]
    abstract = {"a": jax.ShapeDtypeStruct((4,), jnp.float32, sharding=state["a"].sharding)}
    assert checkpoints.restore(abstract, "best").record["step"] == 20
    checkpoints.close()


def test_a_best_that_no_measure_is_named_so_is_a_sentence(tmp_path):
    with pytest.raises(UserError, match="Did you mean 'dev/error'?"):
        train(small(train__best="dev/eror"), tmp_path)


def test_best_is_known_to_a_later_process_and_stays(finished, copy):
    found = {
        line["step"]: line["dev/error"]
        for line in metric_writer.read(str(finished))
        if "dev/error" in line
    }
    assert (min(found, key=found.get), max(found, key=found.get)) == (40, 20)
    worst = small(train__best_mode="max", train__steps=60)
    assert restore(finished, small(), "best").record["step"] == 40
    assert restore(finished, worst, "best").record["step"] == 20
    train(worst, copy)
    checkpoints = checkpoints_of(copy, worst)
    assert checkpoints.steps() == [20, 40, 50, 60]
    checkpoints.close()


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16, jnp.int32, jnp.bool_])
def test_checksums_see_every_bit_and_every_swap(dtype):
    x = np.asarray(jnp.arange(24).reshape(2, 3, 4).astype(dtype))
    first = checksums([x])
    for i in range(x.nbytes * 8):
        if dtype == jnp.bool_ and i % 8:
            continue
        raw = bytearray(x.tobytes())
        raw[i // 8] ^= 1 << (i % 8)
        assert checksums([np.frombuffer(bytes(raw), x.dtype).reshape(x.shape)]) != first
    if dtype != jnp.bool_:
        assert checksums([x[:, ::-1].copy()]) != first


def test_fewer_kept_than_averaged_is_refused(tmp_path):
    with pytest.raises(UserError, match="keep=3 is too few for train.average=5"):
        Checkpoints.of(str(tmp_path), small(train__average=5).train)
