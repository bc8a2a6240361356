"""Packing: every sentence once per epoch, intact, in batches determined by (seed, i)."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tasks.translation.data import packing
from tasks.translation.data.packing import PackedBatches, load_plan, plan_packing
from tests.tasks.translation.data.pairs import make_pairs
from training.errors import UserError

ROW = (10, 14)
SIDES = ("source", "target")
lengths = st.lists(st.tuples(st.integers(2, 10), st.integers(2, 14)), min_size=1, max_size=60)


def sentences(batch, side):
    """(row, segment, tokens) of every sentence of a batch, read back by its segment ids."""
    tokens, segments, positions = (batch[f"{side}{k}"] for k in ("", "_segments", "_positions"))
    assert not tokens[segments == 0].any() and not positions[segments == 0].any()
    for row in range(len(tokens)):
        for segment in range(1, segments[row].max(initial=0) + 1):
            (at,) = np.nonzero(segments[row] == segment)
            np.testing.assert_array_equal(at, np.arange(at[0], at[-1] + 1))
            np.testing.assert_array_equal(positions[row, at], np.arange(len(at)))
            yield row, segment, tuple(tokens[row, at].tolist())


@given(lengths, st.integers(0, 2**31), st.integers(1, 5))
@settings(deadline=None, max_examples=60)
def test_epoch_holds_every_pair_once_and_intact(lengths, seed, batch_size):
    """`make_pairs` gives pair i the tokens 4 + i only, so the tokens identify the pair."""
    batches = PackedBatches(make_pairs(lengths), ROW, batch_size, seed)
    steps = -(-batches.rows // batch_size)
    found, row = [], 0
    for i in range(steps):
        batch = batches[i]
        assert all(batch[side].shape == (batch_size, n) for side, n in zip(SIDES, ROW, strict=True))
        sources, targets = (list(sentences(batch, side)) for side in SIDES)
        assert [x[:2] for x in sources] == [x[:2] for x in targets]  # row and segment ids
        for (r, _, source), (_, _, target) in zip(sources, targets, strict=True):
            if row + r < batches.rows:
                found.append((source, target))
        row += batch_size
    expected = [
        ((4 + i,) * (s - 1) + (2,), (4 + i,) * (t - 1) + (2,)) for i, (s, t) in enumerate(lengths)
    ]
    assert sorted(found) == sorted(expected)


@given(lengths)
@settings(deadline=None, max_examples=60)
def test_no_row_of_a_plan_overflows(lengths):
    source, target = np.array(lengths).T
    plan = plan_packing(source, target, ROW)
    rows = [plan.row(r) for r in range(len(plan.ends))]
    assert all(len(row) and source[row].sum() <= 10 and target[row].sum() <= 14 for row in rows)
    assert sorted(np.concatenate(rows).tolist()) == list(range(len(lengths)))


@pytest.fixture(scope="module")
def pairs():
    rng = np.random.default_rng(0)
    sizes = np.stack([rng.integers(2, 11, 300), rng.integers(2, 15, 300)], axis=1)
    return make_pairs(sizes.tolist())


@pytest.mark.parametrize("start", [1, 17, 1000])
def test_batches_do_not_depend_on_the_batches_before(pairs, start):
    whole, resumed = (PackedBatches(pairs, ROW, 8, seed=5) for _ in range(2))
    expected = [whole[i] for i in range(start + 3)][start:]
    for i, batch in enumerate(expected, start):
        found = resumed[i]
        assert all(np.array_equal(found[name], batch[name]) for name in batch)


def test_epochs_and_seeds_permute_the_rows(pairs):
    rows = PackedBatches(pairs, ROW, 1, seed=0).rows
    batches = PackedBatches(pairs, ROW, rows, seed=0)
    first, second, other = batches[0], batches[1], PackedBatches(pairs, ROW, rows, seed=1)[0]
    for batch in (second, other):
        assert not np.array_equal(batch["source"], first["source"])
        assert sorted(map(bytes, batch["source"])) == sorted(map(bytes, first["source"]))


@pytest.mark.parametrize(
    "mean, spread, longest, row", [(14, 0.35, 60, 64), (14, 0.35, 60, 128), (23, 0.62, 256, 256)]
)
def test_rows_are_at_least_95_percent_full(mean, spread, longest, row):
    """Subword lengths resemble Multi30k, and WMT 2014 in the last case."""
    rng = np.random.default_rng(0)
    source = np.exp(rng.normal(np.log(mean), spread, 20_000))
    target = source * np.exp(rng.normal(0, 0.15, 20_000))
    source, target = (np.clip(x, 2, longest).astype(int) for x in (source, target))
    plan = plan_packing(source, target, (row, row))
    assert (source.sum() + target.sum()) / (2 * row * len(plan.ends)) > 0.95


def test_plan_is_stored_beside_the_tokens_and_rebuilt_if_damaged(pairs, tmp_path, monkeypatch):
    calls = []

    def counted(*arguments):
        calls.append(arguments)
        return plan_packing(*arguments)

    monkeypatch.setattr(packing, "plan_packing", counted)
    cached = type(pairs)(pairs.source, pairs.target, tmp_path / "tokens.npy")
    first = load_plan(cached, ROW)
    again = load_plan(cached, ROW)
    assert len(calls) == 1
    for one, other in zip(first, again, strict=True):
        np.testing.assert_array_equal(one, other)
    [path] = tmp_path.iterdir()
    path.write_bytes(path.read_bytes()[:-50])
    for one, other in zip(load_plan(cached, ROW), first, strict=True):
        np.testing.assert_array_equal(one, other)
    assert len(calls) == 2
    load_plan(cached, (20, 20))
    assert len(calls) == 3


def test_rows_too_short_for_every_pair_are_an_error(pairs):
    kept, dropped = pairs.within((1, 1))
    assert dropped == 300
    with pytest.raises(UserError, match=r"packing\.source_length=1 .* enlarge these"):
        PackedBatches(kept, (1, 1), 8, seed=0)
