"""Tokenized pairs: decoding restores the text, long pairs are dropped or truncated, caching."""

import errno
from pathlib import Path

import numpy as np
import pytest

from tasks.translation.data import packing, tokenized
from tasks.translation.data.pairs import TextPairs
from tasks.translation.data.tokenized import tokenize
from tasks.translation.data.vocabulary import SubwordVocabulary
from tasks.vocabulary import EOS
from tests.tasks.translation.data.pairs import make_pairs

SENTENCES = TextPairs(["a b", "b", "a a a"] * 1400, ["c d", "d c c", "c"] * 1400)


@pytest.fixture(scope="module")
def vocabulary(tmp_path_factory):
    text = [sentence for pair in SENTENCES[:3] for sentence in pair]
    return SubwordVocabulary.train(
        text,
        tmp_path_factory.mktemp("vocabulary") / "bpe.model",
        size=12,
        lowercase=False,
        normalization="nfc",
        sample=0,
    )


def decode(vocabulary, pairs):
    sides = [
        [side.tokens(np.array([i])).tolist() for i in range(len(pairs))] for side in pairs.sides
    ]
    assert all(ids[-1] == EOS and EOS not in ids[:-1] for side in sides for ids in side)
    return list(zip(*map(vocabulary.decode, sides), strict=True))


def test_decoding_restores_the_text_in_order(vocabulary):
    few = SENTENCES[:9]
    pairs = TextPairs([source for source, _ in few], [target for _, target in few])
    assert decode(vocabulary, tokenize(pairs, vocabulary)) == list(few)
    assert len(tokenize(TextPairs([], []), vocabulary)) == 0
    empty_side = tokenize(TextPairs(["", "a"], ["c", ""]), vocabulary)
    assert decode(vocabulary, empty_side) == [("", "c"), ("a", "")]


def test_chosen_sentences_are_concatenated_each_with_eos():
    pairs, _ = make_pairs([(3, 3), (5, 2), (2, 4)]).truncated((4, 4))
    assert pairs.source.tokens(np.array([1, 2])).tolist() == [5, 5, 5, EOS, 6, EOS]


def test_long_pairs_are_dropped_or_truncated_and_counted():
    pairs = make_pairs([(3, 3), (12, 3), (3, 20), (12, 20), (10, 14), (1, 5)])
    kept, dropped = pairs.within((10, 14))
    assert (len(kept), dropped) == (2, 4)  # the last pair has an empty source
    truncated, count = pairs.truncated((10, 14))
    assert (len(truncated), count) == (6, 3)
    assert truncated.target.lengths.tolist() == [3, 3, 14, 14, 14, 5]


def test_tokens_stay_in_memory_if_the_cache_is_read_only(vocabulary, tmp_path, monkeypatch):
    def replace(source, target):
        raise OSError(errno.EROFS, "Read-only file system", source)

    monkeypatch.setattr("training.files.os.replace", replace)
    text = TextPairs(["a b", "b"], ["c d", "d c c"])
    pairs = tokenize(text, vocabulary, tmp_path)
    np.testing.assert_array_equal(pairs.source.ids, tokenize(text, vocabulary).source.ids)
    plan = packing.load_plan(pairs, (9, 9))
    expected = packing.plan_packing(pairs.source.lengths, pairs.target.lengths, (9, 9))
    np.testing.assert_array_equal(plan.order, expected.order)
    assert not any(tmp_path.iterdir())


def test_cache_is_used_and_rebuilt_after_damage_or_change(vocabulary, tmp_path, monkeypatch):
    calls = []
    encode = tokenized._encode

    def counted(*arguments):
        calls.append(1)
        return encode(*arguments)

    monkeypatch.setattr(tokenized, "_encode", counted)
    expected = tokenize(SENTENCES, vocabulary)
    calls.clear()

    def equal(pairs):
        sides = zip(pairs.sides, expected.sides, strict=True)
        return all(
            np.array_equal(x, y) for one, other in sides for x, y in zip(one, other, strict=True)
        )

    for _ in range(2):
        assert equal(tokenize(SENTENCES, vocabulary, tmp_path))
    assert len(calls) == 1
    files = sorted(Path(tmp_path).iterdir())
    assert len(files) == 2  # tokens and lengths
    for file in files:
        for content in (b"", file.read_bytes()[:-100]):
            file.write_bytes(content)
            assert equal(tokenize(SENTENCES, vocabulary, tmp_path))
    assert len(calls) == 5
    other = TextPairs(SENTENCES.sources, ["d"] * len(SENTENCES))
    assert not equal(tokenize(other, vocabulary, tmp_path))
    assert len(calls) == 6
