"""Pairs streamed from files equal the pairs of one file in memory, and so do their batches."""

import gzip
import itertools
import lzma
import os
import tempfile
import time
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
from backports import zstd
from hypothesis import given, settings
from hypothesis import strategies as st

from tasks.translation.data import file_pairs
from tasks.translation.data.bucketing import BucketedBatches
from tasks.translation.data.file_pairs import FilePairs
from tasks.translation.data.packing import PackedBatches
from tasks.translation.data.pairs import TextPairs
from tasks.translation.data.tokenized import tokenize
from tasks.translation.data.vocabulary import SymbolVocabulary
from training.errors import UserError

COMPRESS = {"": bytes, ".gz": gzip.compress, ".xz": lzma.compress, ".zst": zstd.compress}
CHARACTERS = st.characters(codec="utf-8", exclude_characters="\n\ufeff")
LINES = st.text(CHARACTERS, max_size=6).map(str.strip)
SHARDS = st.lists(  # pairs and two compressions
    st.tuples(
        st.lists(st.tuples(LINES, LINES), min_size=1, max_size=5),
        *[st.sampled_from(sorted(COMPRESS))] * 2,
    ),
    min_size=1,
    max_size=4,
)
WORDS = ["a", "b", "c", "d"]


def write(directory, shards):
    """Write the shards and return their paths."""
    paths = []
    for i, (pairs, *suffixes) in enumerate(shards):
        paths.append([])
        for language, lines, suffix in zip("st", zip(*pairs, strict=True), suffixes, strict=True):
            path = Path(directory, f"{i}.{language}{suffix}")
            path.write_bytes(COMPRESS[suffix]("".join(f"{x}\n" for x in lines).encode()))
            paths[-1].append(path)
    return [(source, target) for source, target in paths]


@given(SHARDS, st.integers(1, 7))
@settings(deadline=None, max_examples=20)
def test_shards_equal_one_file(shards, size):
    expected = [pair for pairs, *_ in shards for pair in pairs]
    with tempfile.TemporaryDirectory() as directory:
        pairs = FilePairs(write(directory, shards), allow_empty=True)
        assert list(pairs) == expected
        assert list(itertools.chain.from_iterable(pairs.chunks(size))) == expected
        assert len(pairs) == len(expected)
        assert pairs[-1] == expected[-1]
        assert pairs[1:3] == expected[1:3]
        assert pairs.references == [(target,) for _, target in expected]
        in_memory = pairs.in_memory()
        assert pairs.fingerprint == in_memory.fingerprint
        assert in_memory[:] == expected


def sentence_pairs(count):
    rng = np.random.default_rng(0)
    lengths = rng.integers(0, 9, (count, 2)).tolist()
    return [tuple(" ".join(rng.choice(WORDS, n)) for n in pair) for pair in lengths]


def batch_source(kind, pairs):
    kept, _ = pairs.within((10, 10))
    if kind == "packed":
        return PackedBatches(kept, (12, 12), 4, seed=3)
    return BucketedBatches(kept, (5, 10), 40, seed=3, batch_size_multiple=2)


@pytest.mark.parametrize("kind", ["packed", "bucketed"])
def test_batches_equal_those_of_one_file_in_memory_also_after_a_resume(tmp_path, kind):
    pairs = sentence_pairs(90)
    vocabulary = SymbolVocabulary.train(WORDS, tmp_path / "vocabulary")
    expected = batch_source(kind, tokenize(TextPairs(*zip(*pairs, strict=True)), vocabulary))
    cuts = [0, 1, 31, 32, 90]
    shards = [
        (pairs[a:b], *suffixes)
        for (a, b), suffixes in zip(
            itertools.pairwise(cuts),
            itertools.pairwise(["", ".gz", ".xz", ".zst", ""]),
            strict=True,
        )
    ]
    for start in (0, 5):  # the second pass reads the cache, as a resumed run does
        files = FilePairs(write(tmp_path, shards), allow_empty=True)
        found = batch_source(kind, tokenize(files, vocabulary, tmp_path / "cache"))
        for i in range(start, start + 12):
            assert found[i].keys() == expected[i].keys()
            for name, x in expected[i].items():
                np.testing.assert_array_equal(found[i][name], x)


@pytest.fixture
def files(tmp_path):
    """Return the paths of two shards, which were last modified an hour ago."""
    shards = write(tmp_path, [([("a", "b")] * 3, "", ".gz"), ([("c", "")], ".xz", "")])
    for path in itertools.chain(*shards):
        os.utime(path, times=(time.time() - 3600,) * 2)
    return shards


@pytest.fixture
def reads(monkeypatch):
    """Return a list to which the path of every file that is read is appended."""
    paths = []
    read_lines = file_pairs.read_lines

    def recorded(path):
        paths.append(path)
        return read_lines(path)

    monkeypatch.setattr(file_pairs, "read_lines", recorded)
    return paths


def check(shards, cache):
    pairs = FilePairs(shards, allow_empty=True)
    pairs.check(cache)
    return len(pairs), pairs.fingerprint


def test_unchanged_files_are_not_read_again(files, reads, tmp_path):
    cache = tmp_path / "cache"
    first = check(files, cache)
    assert first[0] == 4
    assert len(reads) == 4
    assert check(files, cache) == first
    assert len(reads) == 4
    [index] = cache.iterdir()
    index.write_bytes(index.read_bytes()[:-9])  # damaged
    assert check(files, cache) == first
    assert len(reads) == 8
    # Another content of the same size.
    path, old = files[0][0], files[0][0].stat()
    path.write_bytes(path.read_bytes()[::-1].replace(b"\na", b"b\n"))
    assert path.stat().st_size == old.st_size
    os.utime(path, ns=(old.st_atime_ns, old.st_mtime_ns + 1000))
    changed = check(files, cache)
    assert changed[1] != first[1]
    assert len(reads) == 12


def test_files_that_were_just_written_are_read_again(files, reads, tmp_path):
    cache = tmp_path / "cache"
    files[1][1].touch()
    first = check(files, cache)
    assert check(files, cache) == first
    assert len(reads) == 8
    assert not cache.exists()


def test_faulty_files_are_not_cached(files, tmp_path):
    files[1][1].write_text("")
    os.utime(files[1][1], times=(0, 0))
    for _ in range(2):
        with pytest.raises(UserError, match=r"1\.t is empty: add sentences or remove it"):
            check(files, tmp_path / "cache")
    files[1][1].write_text("one\ntwo\n")
    with pytest.raises(UserError, match=r"1\.s\.xz has 1 lines but \S+1\.t has 2"):
        check(files, tmp_path / "cache")


@pytest.mark.parametrize("lines", [1, 4])
def test_change_while_reading_is_an_error(files, tmp_path, lines):
    pairs = FilePairs(files, allow_empty=True)
    assert len(pairs) == 4
    for path, compress in zip(files[0], (bytes, gzip.compress), strict=True):
        path.write_bytes(compress(b"x\n" * lines))
    vocabulary = SymbolVocabulary.train(["x"], tmp_path / "vocabulary")
    with pytest.raises(UserError, match=r"0\.s or \S+0\.t\.gz changed while .* start again"):
        tokenize(pairs, vocabulary, tmp_path / "cache")
    assert not any((tmp_path / "cache").glob("[!.]*.npy"))


def test_text_is_not_kept_in_memory(tmp_path):
    """The text takes 24 MB in the files, and more as strings."""
    for language in "st":
        (tmp_path / f"0.{language}").write_text(f"{'w' * 599}\n" * 20_000)
    pairs = FilePairs([(tmp_path / "0.s", tmp_path / "0.t")], allow_empty=True)
    tracemalloc.start()
    try:
        count = sum(map(len, pairs.chunks(64)))
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert count == len(pairs) == 20_000
    assert peak < 12e6
