"""Labeled instances on disk: shuffling, padding, and recovery from damaged files."""

import numpy as np
import pytest

from tasks.pointing import label_store
from tasks.pointing.label_store import LabelStore
from training.errors import UserError

FILE, BATCH, MAX_STEPS = 12, 4, 6


def leftmost(points):
    """Solver that is fast and easy to check: the leftmost point, once or twice."""
    index = np.argmin(points[..., 0], axis=1)
    return [np.array([i] * (1 + i % 2)) for i in index]


@pytest.fixture
def store(tmp_path, monkeypatch):
    """Three files of three batches, with three, four and three points per instance."""
    monkeypatch.setattr(label_store, "INSTANCES_PER_FILE", FILE)
    store = LabelStore(leftmost, "leftmost", (3, 4), 30, BATCH, str(tmp_path))
    for file in range(store.num_files):  # worker processes would not see the patched file size
        store.label(file)
    return store


def take(store, count, start=0):
    batches = store.batches(lambda n: MAX_STEPS, start)
    taken = [next(batches) for _ in range(count)]
    batches.close()
    return taken


def equal(x, y):
    return all(np.array_equal(x[name], y[name]) for name in x)


def test_batch_has_one_size_and_is_padded_with_the_end_token(store):
    for batch in take(store, 9):
        count = int(batch["count"][0])
        assert (batch["count"] == count).all() and batch["points"].shape == (BATCH, count, 2)
        solutions = leftmost(batch["points"])
        longest = max(map(len, solutions)) + 1  # with the end token
        length = batch["choices"].shape[1]
        assert length == min(padded for padded in (2, 3, 5, 6) if padded >= longest)
        for solution, choices in zip(solutions, batch["choices"].tolist(), strict=True):
            assert choices == [*solution, *[count] * MAX_STEPS][:length]


def test_first_epoch_is_shuffled_in_windows_of_all_sizes(store):
    counts = [int(batch["count"][0]) for batch in take(store, 9)]
    assert sorted(counts[:6]) == [3, 3, 3, 4, 4, 4] != counts[:6] and counts[6:] == [3, 3, 3]


def test_arrays_have_few_lengths(tmp_path, monkeypatch):
    """Tours of 5 to 20 points, in files of one batch; the problem has no end token."""
    monkeypatch.setattr(label_store, "INSTANCES_PER_FILE", 2)
    in_order = lambda points: [np.arange(points.shape[1])] * len(points)
    store = LabelStore(in_order, "in_order", (5, 20), 32, 2, str(tmp_path))
    for file in range(store.num_files):
        store.label(file)
    batches = store.batches(lambda n: n, 0)
    taken = [next(batches) for _ in range(16)]
    assert {int(batch["count"][0]) for batch in taken} == {*range(5, 21)}
    for batch in taken:
        count = int(batch["count"][0])
        size = 5 * -(-count // 5)
        assert batch["points"].shape == (2, size, 2) and not batch["points"][:, count:].any()
        assert batch["choices"].tolist() == [[*range(count), *[size] * (size - count)]] * 2


def test_every_epoch_has_all_instances_in_a_new_order(store):
    batches = take(store, 27)
    key = lambda batch: batch["points"].tobytes()
    epochs = [[key(batch) for batch in batches[start : start + 9]] for start in (0, 9, 18)]
    assert set(epochs[0]) == set(epochs[1]) == set(epochs[2]) and len(set(epochs[0])) == 9
    assert epochs[0] != epochs[1] != epochs[2]


def test_batches_do_not_depend_on_the_start_step(store):
    expected = take(store, 20)
    for start in (1, 5, 12):
        actual = take(store, 20 - start, start)
        assert all(equal(x, y) for x, y in zip(actual, expected[start:], strict=True))


def test_intact_files_are_reused_and_damaged_files_are_rewritten(store):
    expected = take(store, 9)
    content = store.path(1).read_bytes()
    store.path(1).write_bytes(content[:-7] + b"!" + content[-6:])
    modified = store.path(0).stat().st_mtime_ns
    assert all(equal(x, y) for x, y in zip(take(store, 9), expected, strict=True))
    assert store.path(1).read_bytes() == content
    assert store.path(0).stat().st_mtime_ns == modified


def test_number_of_files_must_cover_all_sizes(tmp_path):
    span = 45 * 5_120
    message = f"instances={span} gives 45 files for 46 sizes: increase it to at least {span + 1}"
    with pytest.raises(UserError, match=message):
        LabelStore(leftmost, "leftmost", (5, 50), span, 128, str(tmp_path))
    store = LabelStore(leftmost, "leftmost", (5, 50), span + 1, 128, str(tmp_path))
    assert store.num_files == 46


def test_batch_size_must_divide_a_file(tmp_path):
    with pytest.raises(UserError, match="batch size 7 must divide 5,120"):
        LabelStore(leftmost, "leftmost", (3, 4), 30, 7, str(tmp_path))
