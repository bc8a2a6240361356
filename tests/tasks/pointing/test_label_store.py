"""Labelled points on disk: the same from any start, and whole after any accident."""

import numpy as np
import pytest

from tasks.pointing import label_store as module
from tasks.pointing.label_store import Labels
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
    batches = labels.batches(lambda n: LENGTH, start)
    taken = [next(batches) for _ in range(count)]
    batches.close()
    return taken


def equal(one, other):
    return all(np.array_equal(one[name], other[name]) for name in one)


def test_rows_are_labelled_points_of_one_size_filled_up_with_the_end(labels):
    sizes = []
    for batch in take(labels, 9):
        size = int(batch["count"][0])
        sizes.append(size)
        assert (batch["count"] == size).all() and batch["points"].shape == (ROWS, size, 2)
        answers = leftmost(batch["points"])
        longest = max(map(len, answers)) + 1  # with the end
        length = batch["choices"].shape[1]
        assert length == min(fit for fit in (2, 3, 5, 6) if fit >= longest)
        for answer, choices in zip(answers, batch["choices"].tolist(), strict=True):
            assert choices == [*answer, *[size] * LENGTH][:length]
    # Three batches to a file, of three points and of four: the first two files' are mixed.
    assert sorted(sizes[:6]) == [3, 3, 3, 4, 4, 4] != sizes[:6] and sizes[6:] == [3, 3, 3]


def test_arrays_have_few_lengths_and_answers_that_are_known_to_end_no_end(tmp_path, monkeypatch):
    """Of 5 to 20 points, each answered by all of them, in batches of a file each."""
    monkeypatch.setattr(module, "CHUNK", 2)
    in_order = lambda points: [np.arange(points.shape[1])] * len(points)
    labels = Labels(in_order, "in_order", (5, 20), 32, 2, str(tmp_path))
    for number in range(labels.count):
        labels.make(number)
    batches = labels.batches(lambda n: n, 0)
    found = [next(batches) for _ in range(16)]
    assert {int(batch["count"][0]) for batch in found} == {*range(5, 21)}
    for batch in found:
        n = int(batch["count"][0])
        size = 5 * -(-n // 5)
        assert batch["points"].shape == (2, size, 2) and not batch["points"][:, n:].any()
        assert batch["choices"].tolist() == [[*range(n), *[size] * (size - n)]] * 2


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


def test_there_are_files_of_every_size(tmp_path):
    with pytest.raises(UserError, match="instances=230400 fill files .* 230,401 are the fewest"):
        Labels(leftmost, "leftmost", (5, 50), 45 * 5_120, 128, str(tmp_path))
    assert Labels(leftmost, "leftmost", (5, 50), 45 * 5_120 + 1, 128, str(tmp_path)).count == 46


def test_a_batch_has_to_divide_a_file(tmp_path):
    with pytest.raises(UserError, match="A batch of 7 labelled instances does not divide 5,120"):
        Labels(leftmost, "leftmost", (3, 4), 30, 7, str(tmp_path))
