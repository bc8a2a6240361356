import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tasks.translation.data import bucketing as batching
from tasks.translation.data.bucketing import (
    BucketedBatches,
    Side,
    TokenisedPairs,
    bucket_shapes,
    evaluation_batches,
    tokenise,
)
from tasks.translation.data.pairs import TextPairs
from tasks.translation.data.vocabulary import EOS, PAD, BytePairs
from training.errors import UserError

BUCKETS = (4, 8, (10, 14))
TOKENS = 130


def make_pairs(lengths, first=4):
    """Pairs of the given (source, target) lengths; pair i has only tokens `first` + i, then EOS."""
    sides = []
    for side in (0, 1):
        rows = [[first + i] * (pair[side] - 1) + [EOS] for i, pair in enumerate(lengths)]
        sizes = np.array([len(row) for row in rows], int)
        ids = np.array([token for row in rows for token in row], np.int32)
        sides.append(Side(ids, np.cumsum(sizes) - sizes, sizes))
    return TokenisedPairs(*sides)


def rows_of(batch):
    """The (source, target) rows of a batch without padding; None for a row of padding alone."""
    for source, target in zip(batch["source"], batch["target"], strict=True):
        yield (
            (tuple(source[source != PAD]), tuple(target[target != PAD])) if source.any() else None
        )


def smallest_bucket(source, target):
    return next(s for s in bucket_shapes(BUCKETS) if source <= s[0] and target <= s[1])


lengths = st.lists(st.tuples(st.integers(2, 10), st.integers(2, 14)), min_size=1, max_size=90)


@given(lengths, st.integers(0, 2**31), st.integers(0, 3))
@settings(deadline=None, max_examples=60)
def test_each_epoch_holds_every_pair_once_in_its_bucket(lengths, seed, epoch):
    batches = BucketedBatches(make_pairs(lengths), BUCKETS, TOKENS, seed)
    seen = []
    for i in range(epoch * batches.per_epoch, (epoch + 1) * batches.per_epoch):
        batch = batches[i]
        assert batch["source"].dtype == batch["target"].dtype == np.int32
        shape = batch["source"].shape[1], batch["target"].shape[1]
        assert shape in bucket_shapes(BUCKETS)
        rows = len(batch["source"])
        assert rows % 8 == 0 and rows == len(batch["target"])
        assert rows * max(shape) <= TOKENS or rows == 8
        for row in filter(None, rows_of(batch)):
            assert row[0][-1] == row[1][-1] == EOS
            assert smallest_bucket(*map(len, row)) == shape
            seen.append((row[0][0] - 4, len(row[0]), len(row[1])))
    assert sorted(seen) == [(i, *pair) for i, pair in enumerate(lengths)]


def stream(batches, start, count):
    iterator = prefetch(batches, start)
    taken = [next(iterator) for _ in range(count)]
    iterator.close()
    return taken


def same(a, b):
    return all(np.array_equal(a[name], b[name]) for name in ("source", "target"))


@pytest.fixture(scope="module")
def pairs():
    rng = np.random.default_rng(0)
    sizes = np.stack([rng.integers(2, 11, 300), rng.integers(2, 15, 300)], axis=1)
    return make_pairs(sizes.tolist())


@pytest.mark.parametrize("start", [0, 1, 17, 1000])
def test_the_same_batches_from_any_start(pairs, start):
    whole = BucketedBatches(pairs, BUCKETS, TOKENS, seed=5)
    expected = [whole[start + i] for i in range(2 * whole.per_epoch)]
    resumed = BucketedBatches(pairs, BUCKETS, TOKENS, seed=5)
    found = stream(resumed, start, len(expected))
    assert all(same(a, b) for a, b in zip(found, expected, strict=True))


def test_seeds_and_epochs_give_different_orders(pairs):
    first, second = (BucketedBatches(pairs, BUCKETS, TOKENS, seed) for seed in (0, 1))
    n = first.per_epoch
    assert n == second.per_epoch
    one = [first[i] for i in range(n)]
    assert sum(same(a, second[i]) for i, a in enumerate(one)) < n / 4
    assert sum(same(a, first[n + i]) for i, a in enumerate(one)) < n / 4
    shapes = [batch["source"].shape for batch in one]
    assert shapes != sorted(shapes), "buckets come one after another"


def test_random_access_from_many_threads_is_the_same(pairs):
    batches = BucketedBatches(pairs, BUCKETS, TOKENS, seed=2)
    order = np.random.default_rng(0).permutation(4 * batches.per_epoch).tolist()
    found = {}
    threads = [
        threading.Thread(target=lambda part: found.update((i, batches[i]) for i in part), args=(p,))
        for p in (order[0::3], order[1::3], order[2::3])
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    fresh = BucketedBatches(pairs, BUCKETS, TOKENS, seed=2)
    assert all(same(found[i], fresh[i]) for i in sorted(order))


@given(lengths)
@settings(deadline=None, max_examples=40)
def test_evaluation_gives_every_pair_once_with_its_index(lengths):
    pairs = make_pairs(lengths)
    seen = []
    for batch, indices in evaluation_batches(pairs, BUCKETS, TOKENS):
        rows = list(rows_of(batch))
        assert rows[len(indices) :] == [None] * (len(rows) - len(indices))
        for row, i in zip(rows, indices, strict=False):
            assert row == (
                (4 + i,) * (lengths[i][0] - 1) + (2,),
                (4 + i,) * (lengths[i][1] - 1) + (2,),
            )
        seen.extend(indices.tolist())
    assert sorted(seen) == list(range(len(lengths)))


def test_long_pairs_are_dropped_or_truncated_and_counted():
    pairs = make_pairs([(3, 3), (12, 3), (3, 20), (12, 20), (10, 14), (1, 5)])
    kept, dropped = pairs.within((10, 14))
    assert (len(kept), dropped) == (2, 4)  # the last pair has an empty source side
    cut, count = pairs.truncated((10, 14))
    assert (len(cut), count) == (6, 3)
    [(batch, indices)] = evaluation_batches(cut, [(10, 14)], tokens=200)
    row = indices.tolist().index(3)
    assert batch["source"][row].tolist() == [7] * 9 + [EOS]
    assert batch["target"][row].tolist() == [7] * 13 + [EOS]
    with pytest.raises(ValueError, match="longer than the last bucket"):
        BucketedBatches(pairs, [(10, 14)], TOKENS, seed=0)


@pytest.mark.parametrize("buckets", [(), (8, 4), (8, 8), ((8, 4), (6, 9)), (0, 4)])
def test_buckets_must_ascend(buckets):
    with pytest.raises(UserError, match=r"batching\.buckets=.* must be ascending"):
        bucket_shapes(buckets)


def test_no_pair_within_the_buckets_is_named():
    kept, dropped = make_pairs([(12, 3)]).within((4, 4))
    assert dropped == 1
    with pytest.raises(UserError, match=r"no pair to train on .*batching\.buckets"):
        BucketedBatches(kept, [4], TOKENS, seed=0)


SENTENCES = TextPairs(["a b", "b", "a a a"] * 3000, ["c d", "d c c", "c"] * 3000)


@pytest.fixture(scope="module")
def vocabulary(tmp_path_factory):
    text = [sentence for pair in SENTENCES[:3] for sentence in pair]
    return BytePairs.train(text, tmp_path_factory.mktemp("vocabulary") / "pieces.model", size=12)


def decoded(vocabulary, tokenised):
    sides = [
        [side.ids[s : s + n].tolist() for s, n in zip(side.starts, side.lengths, strict=True)]
        for side in tokenised.sides
    ]
    assert all(row[-1] == EOS and EOS not in row[:-1] for side in sides for row in side)
    return list(zip(*map(vocabulary.decode, sides), strict=True))


def test_tokenising_keeps_text_and_order(vocabulary):
    assert decoded(vocabulary, tokenise(SENTENCES, vocabulary)) == list(SENTENCES)
    assert len(tokenise(TextPairs([], []), vocabulary)) == 0
    empty_side = tokenise(TextPairs(["", "a"], ["c", ""]), vocabulary)
    assert decoded(vocabulary, empty_side) == [("", "c"), ("a", "")]


def test_the_cache_is_used_and_damage_or_change_rebuilds_it(vocabulary, tmp_path, monkeypatch):
    calls = []
    encode = batching._encode

    def counted(*arguments):
        calls.append(1)
        return encode(*arguments)

    monkeypatch.setattr(batching, "_encode", counted)
    for _ in range(2):
        assert decoded(vocabulary, tokenise(SENTENCES, vocabulary, tmp_path)) == list(SENTENCES)
    assert len(calls) == 1
    [file] = Path(tmp_path).iterdir()
    for content in (b"", file.read_bytes()[:-100]):
        file.write_bytes(content)
        assert decoded(vocabulary, tokenise(SENTENCES, vocabulary, tmp_path)) == list(SENTENCES)
    assert len(calls) == 3
    other = TextPairs(SENTENCES.sources, ["d"] * len(SENTENCES))
    assert decoded(vocabulary, tokenise(other, vocabulary, tmp_path)) == list(other)
    assert len(calls) == 4


def test_threads_end_on_close_and_with_the_interpreter(pairs):
    before = threading.active_count()
    stream(BucketedBatches(pairs, BUCKETS, TOKENS, seed=0), 0, 3)
    for thread in threading.enumerate():
        if thread.name.startswith("grain-prefetch"):
            thread.join(timeout=10)
    assert threading.active_count() == before
    program = (
        "import numpy as np\n"
        "from tasks.translation.data.bucketing import *\n"
        "from training.prefetch import prefetch\n"
        "side = Side(np.full(80, 2), np.arange(80), np.ones(80, int))\n"
        "batches = prefetch(BucketedBatches(TokenisedPairs(side, side), [4], 64, 0))\n"
        'print(next(batches)["source"].shape)\n'
    )
    done = subprocess.run(
        [sys.executable, "-c", program],
        cwd=Path(__file__).parents[4],
        check=False,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert (done.returncode, done.stdout) == (0, "(16, 4)\n"), done.stderr
