"""Labelled points on disk: the same from any start, and whole after any accident."""

import numpy as np
import pytest

from tasks.data import labels as module
from tasks.data.labels import Labels
from training.errors import UserError

CHUNK, ROWS, LENGTH = 12, 4, 6


def leftmost(points):
    """A label that is quick to make and to check: the point furthest to the left, once or twice."""
    first = np.argmin(points[..., 0], axis=1)
    return [np.array([i] * (1 + i % 2)) for i in first]


@pytest.fixture
def labels(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "CHUNK", CHUNK)
    made = Labels(leftmost, "leftmost", (3, 4), 30, ROWS, str(tmp_path))
    for number in range(made.count):  # here, as a process would not know of the smaller files
        made.make(number)
    return made


def take(labels, count, start=0):
    batches = labels.batches(LENGTH, start)
    taken = [next(batches) for _ in range(count)]
    batches.close()
    return taken


def equal(one, other):
    return all(np.array_equal(one[name], other[name]) for name in one)


def test_rows_are_labelled_points_of_one_size_filled_up_with_the_end(labels):
    for n, batch in enumerate(take(labels, 9)):
        size = 3 + n // 3 % 2  # three batches to a file, files of three and four points in turn
        assert (batch["count"] == size).all() and not batch["points"][:, size:].any()
        for points, choices in zip(batch["points"][:, :size], batch["choices"], strict=True):
            first = int(np.argmin(points[:, 0]))
            assert choices.tolist() == ([first] * (1 + first % 2) + [4] * LENGTH)[:LENGTH]


def test_every_lap_has_all_instances_in_another_order(labels):
    batches = take(labels, 27)
    key = lambda batch: batch["points"].tobytes()
    laps = [[key(batch) for batch in batches[at : at + 9]] for at in (0, 9, 18)]
    assert set(laps[0]) == set(laps[1]) == set(laps[2]) and len(set(laps[0])) == 9
    assert laps[0] != laps[1] != laps[2]


def test_the_same_from_any_start(labels):
    whole = take(labels, 20)
    for start in (1, 5, 12):
        rest = take(labels, 20 - start, start)
        assert all(equal(one, other) for one, other in zip(rest, whole[start:], strict=True))


def test_what_is_there_is_used_and_what_is_damaged_is_made_anew(labels):
    whole = take(labels, 9)
    content = labels.path(1).read_bytes()
    labels.path(1).write_bytes(content[:-7] + b"!" + content[-6:])
    kept = labels.path(0).stat().st_mtime_ns
    assert all(equal(one, other) for one, other in zip(take(labels, 9), whole, strict=True))
    assert labels.path(1).read_bytes() == content
    assert labels.path(0).stat().st_mtime_ns == kept


def test_a_batch_has_to_divide_a_file(tmp_path):
    with pytest.raises(UserError, match="A batch of 7 labelled instances does not divide 5,120"):
        Labels(leftmost, "leftmost", (3, 4), 30, 7, str(tmp_path))
