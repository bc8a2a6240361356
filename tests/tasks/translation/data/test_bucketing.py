"""Bucketed batches: every pair once per epoch, in its bucket, determined by (seed, i)."""

import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tasks.translation.data.bucketing import BucketedBatches, bucket_shapes, evaluation_batches
from tasks.vocabulary import EOS, PAD
from tests.tasks.translation.data.pairs import make_pairs
from training.errors import UserError
from training.prefetch import prefetch

BUCKETS = (4, 8, (10, 14))
TOKENS = 130


def entries(batch):
    """(source, target) of each batch entry without padding; `None` for an entry of padding only."""
    for source, target in zip(batch["source"], batch["target"], strict=True):
        yield (
            (tuple(source[source != PAD]), tuple(target[target != PAD])) if source.any() else None
        )


def smallest_bucket(source, target):
    return next(s for s in bucket_shapes(BUCKETS) if source <= s[0] and target <= s[1])


lengths = st.lists(st.tuples(st.integers(2, 10), st.integers(2, 14)), min_size=1, max_size=90)


@given(lengths, st.integers(0, 2**31), st.integers(0, 3))
@settings(deadline=None, max_examples=60)
def test_epoch_holds_every_pair_once_in_its_bucket(lengths, seed, epoch):
    batches = BucketedBatches(make_pairs(lengths), BUCKETS, TOKENS, seed)
    found = []
    for i in range(epoch * batches.per_epoch, (epoch + 1) * batches.per_epoch):
        batch = batches[i]
        assert batch["source"].dtype == batch["target"].dtype == np.int32
        shape = batch["source"].shape[1], batch["target"].shape[1]
        assert shape in bucket_shapes(BUCKETS)
        size = len(batch["source"])
        assert size % 8 == 0 and size == len(batch["target"])
        assert size * max(shape) <= TOKENS or size == 8
        for pair in filter(None, entries(batch)):
            assert pair[0][-1] == pair[1][-1] == EOS
            assert smallest_bucket(*map(len, pair)) == shape
            found.append((pair[0][0] - 4, len(pair[0]), len(pair[1])))
    assert sorted(found) == [(i, *pair) for i, pair in enumerate(lengths)]


def equal(a, b):
    return all(np.array_equal(a[name], b[name]) for name in ("source", "target"))


@pytest.fixture(scope="module")
def pairs():
    rng = np.random.default_rng(0)
    sizes = np.stack([rng.integers(2, 11, 300), rng.integers(2, 15, 300)], axis=1)
    return make_pairs(sizes.tolist())


@pytest.mark.parametrize("start", [0, 17, 1000])
def test_prefetching_from_any_step_gives_the_batches_of_an_uninterrupted_run(pairs, start):
    whole = BucketedBatches(pairs, BUCKETS, TOKENS, seed=5)
    expected = [whole[start + i] for i in range(2 * whole.per_epoch)]
    iterator = prefetch(BucketedBatches(pairs, BUCKETS, TOKENS, seed=5), start)
    found = [next(iterator) for _ in expected]
    iterator.close()
    assert all(equal(a, b) for a, b in zip(found, expected, strict=True))


def test_seeds_and_epochs_give_different_orders(pairs):
    first, second = (BucketedBatches(pairs, BUCKETS, TOKENS, seed) for seed in (0, 1))
    n = first.per_epoch
    assert n == second.per_epoch
    one = [first[i] for i in range(n)]
    assert sum(equal(a, second[i]) for i, a in enumerate(one)) < n / 4
    assert sum(equal(a, first[n + i]) for i, a in enumerate(one)) < n / 4
    shapes = [batch["source"].shape for batch in one]
    assert shapes != sorted(shapes), "batches are grouped by bucket"


def test_concurrent_access_gives_the_same_batches(pairs):
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
    assert all(equal(found[i], fresh[i]) for i in sorted(order))


@given(lengths)
@settings(deadline=None, max_examples=40)
def test_evaluation_gives_every_pair_once_with_its_index(lengths):
    found = []
    for batch, indices in evaluation_batches(make_pairs(lengths), BUCKETS, TOKENS):
        pairs = list(entries(batch))
        assert pairs[len(indices) :] == [None] * (len(pairs) - len(indices))
        for pair, i in zip(pairs, indices, strict=False):
            assert pair == tuple((4 + i,) * (n - 1) + (EOS,) for n in lengths[i])
        found.extend(indices.tolist())
    assert sorted(found) == list(range(len(lengths)))


def test_truncated_sentences_end_in_eos():
    truncated, _ = make_pairs([(3, 3), (12, 20)]).truncated((10, 14))
    [(batch, indices)] = evaluation_batches(truncated, [(10, 14)], tokens=200)
    entry = indices.tolist().index(1)
    assert batch["source"][entry].tolist() == [5] * 9 + [EOS]
    assert batch["target"][entry].tolist() == [5] * 13 + [EOS]


def test_pairs_longer_than_the_last_bucket_are_rejected():
    with pytest.raises(ValueError, match="longer than the last bucket"):
        BucketedBatches(make_pairs([(12, 3)]), [(10, 14)], TOKENS, seed=0)


@pytest.mark.parametrize("buckets", [(), (8, 4), (8, 8), ((8, 4), (6, 9)), (0, 4)])
def test_buckets_must_ascend(buckets):
    with pytest.raises(UserError, match=r"batching\.buckets=.* must be ascending"):
        bucket_shapes(buckets)


def test_buckets_too_short_for_every_pair_are_an_error():
    kept, dropped = make_pairs([(12, 3)]).within((4, 4))
    assert dropped == 1
    with pytest.raises(UserError, match=r"No training pair .*batching\.buckets"):
        BucketedBatches(kept, [4], TOKENS, seed=0)


def test_prefetch_threads_end_on_close_and_with_the_interpreter(pairs):
    before = threading.active_count()
    iterator = prefetch(BucketedBatches(pairs, BUCKETS, TOKENS, seed=0))
    next(iterator)
    iterator.close()
    for thread in threading.enumerate():
        if thread.name.startswith("grain-prefetch"):
            thread.join(timeout=10)
    assert threading.active_count() == before
    program = (
        "import numpy as np\n"
        "from training.prefetch import prefetch\n"
        "class Batches:\n"
        "    def __len__(self): return 1000\n"
        "    def __getitem__(self, i): return np.full(3, i)\n"
        "batches = prefetch(Batches())\n"
        "print(next(batches).tolist())\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program],
        cwd=Path(__file__).parents[4],
        check=False,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert (done.returncode, done.stdout) == (0, "[0, 0, 0]\n"), done.stderr
