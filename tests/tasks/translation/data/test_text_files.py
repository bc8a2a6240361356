"""Parallel text files in a directory or selected by globs."""

import gzip
import lzma

import pytest
from backports import zstd

from tasks.translation.data import corpora
from tasks.translation.data.pairs import TextPairs
from tasks.translation.data.text_files import read_directory
from training.errors import UserError


@pytest.fixture
def directory(tmp_path):
    """Four splits in English and German; one of the files is compressed."""
    for stem, count in (("train", 3), ("val", 2), ("test_b", 1), ("test_a", 2)):
        for language in ("en", "de"):
            lines = "".join(f"{language} {stem} {i}\n" for i in range(count))
            (tmp_path / f"{stem}.{language}").write_text(lines)
    (tmp_path / "train.de").unlink()
    content = "größe\u2028a\r\n  zwei\ndrei".encode()
    (tmp_path / "train.de.gz").write_bytes(gzip.compress(content))
    return tmp_path


def test_directory_is_read_by_split(directory):
    splits = read_directory(directory, "en", "de")
    sizes = {name: len(pairs) for name, pairs in splits.items()}
    assert sizes == {"train": 3, "dev": 2, "test": 2, "test_b": 1}
    assert splits["train"][0] == ("en train 0", "größe\u2028a")
    assert splits["train"][1:] == [("en train 1", "zwei"), ("en train 2", "drei")]
    assert splits["test"][-1] == ("en test_a 1", "de test_a 1")
    assert read_directory(directory, "de", "en")["train"][2] == ("drei", "en train 2")


def test_plain_test_file_takes_precedence(directory):
    for language in ("en", "de"):
        (directory / f"test.{language}").write_text("one line\n")
    splits = read_directory(directory, "en", "de")
    sizes = {name: len(pairs) for name, pairs in splits.items() if "test" in name}
    assert sizes == {"test": 1, "test_a": 2, "test_b": 1}


def test_fingerprint_depends_on_the_content(directory):
    def fingerprint():
        return read_directory(directory, "en", "de")["dev"].fingerprint

    before = fingerprint()
    assert before == fingerprint()
    (directory / "val.de").write_text("de val 0\nde val 2\n")
    assert fingerprint() != before
    assert TextPairs(["a"], ["b"]).fingerprint != TextPairs(["b"], ["a"]).fingerprint


@pytest.mark.parametrize(
    "name, content, message",
    [
        ("val.de", None, r"has no val\.de"),
        ("train.en", None, r"has no train\.en \(or \.gz, \.xz or \.zst of it\): add it"),
        ("train.en", b"one\ntwo\n", r"train\.en has 2 lines but .*train\.de\.gz has 3"),
        ("val.en", b"one\n \n", r"val\.en, line 2 is empty"),
        ("val.en", b"", r"val\.en is empty"),
        ("val.en", b"one\ntw\xff\n", r"val\.en, line 2 is not UTF-8"),
        ("train.de.gz", b"\x1f\x8bnot gzip", r"Cannot read .*train\.de\.gz"),
        ("train.en", b"one\ntw\xff\n", r"train\.en, line 2 is not UTF-8"),
        ("train.en", b"", r"train\.en is empty"),
    ],
)
def test_invalid_file_is_an_error(directory, name, content, message):
    (directory / name).unlink()
    if content is not None:
        (directory / name).write_bytes(content)
    with pytest.raises(UserError, match=message):
        corpora.load("text_files", "en", "de", dir=str(directory))


def test_missing_directory_or_language_is_an_error(directory):
    with pytest.raises(UserError, match=r"There is no directory .*/nowhere: set data\.dir"):
        read_directory(directory / "nowhere", "en", "de")
    with pytest.raises(UserError, match=r"has no train\.cs"):
        read_directory(directory, "en", "cs")


def test_empty_lines_are_accepted_in_training_only(directory):
    (directory / "train.en").write_text("one\n\nthree\n")
    assert read_directory(directory, "en", "de")["train"][1] == ("", "zwei")
    (directory / "test_a.de").write_text("eins\n\n")
    with pytest.raises(UserError, match=r"test_a\.de, line 2 is empty"):
        read_directory(directory, "en", "de")


def test_files_that_are_no_split_are_ignored(directory):
    (directory / "vocab.en").write_text("a\nb\n\n")
    (directory / "vocab.de").write_text("a\n")
    (directory / "mono.de").write_bytes(b"\xff")
    (directory / "test_c.en").write_text("no translation\n")
    for name in ("._train.en", "._test_a.de", ".hidden.en"):
        (directory / name).write_bytes(b"\0\xff")
    splits = read_directory(directory, "en", "de")
    assert sorted(splits) == ["dev", "test", "test_b", "train"]
    assert splits.ignored_files == ["mono.de", "test_c.en", "vocab.de", "vocab.en"]


@pytest.mark.parametrize("name", ["\0", "x" * 5000, "~no-such-user/text", ""])
def test_invalid_directory_name_is_an_error(name):
    with pytest.raises(UserError, match="There is no directory|has no train"):
        corpora.load("text_files", "en", "de", dir=name)


WRITERS = {"": bytes, ".gz": gzip.compress, ".xz": lzma.compress, ".zst": zstd.compress}


@pytest.fixture
def shards(tmp_path):
    """Three training shards in each of the compressions, a dev pair and a test pair."""
    for i, suffix in enumerate(("", ".xz", ".zst")):
        for language, other in (("en", ".gz"), ("de", suffix)):
            lines = "".join(f"{language} {i} {j}\n" for j in range(i + 1))
            path = tmp_path / "a" / str(2 - i) / f"part{i}.en-de.{language}{other}"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(WRITERS[other](lines.encode()))
    for split in ("dev", "test"):
        for language in ("en", "de"):
            (tmp_path / f"{split}.{language}.00").write_text(f"{language} {split}\n")
    return tmp_path


def load_globs(directory, train, **patterns):
    options = {"dev": "dev.en.*", "test": "test.en.*", "train": train} | patterns
    globs = {split: f"{directory}/{pattern}" for split, pattern in options.items()}
    return corpora.load("text_globs", "en", "de", **globs)


def test_files_of_a_glob_are_read_in_the_order_of_their_paths(shards):
    splits = load_globs(shards, "a/**/*.en.gz")
    expected = [(i, j) for i in (2, 1, 0) for j in range(i + 1)]
    assert list(splits["train"]) == [(f"en {i} {j}", f"de {i} {j}") for i, j in expected]
    assert splits["train"][4:] == [("en 1 1", "de 1 1"), ("en 0 0", "de 0 0")]
    assert splits["train"][-1] == ("en 0 0", "de 0 0")
    assert list(splits["dev"]) == [("en dev", "de dev")]
    assert sorted(splits) == ["dev", "test", "train"]


@pytest.mark.parametrize(
    "pattern, message",
    [
        ("b/*.en", r"No file matches data\.train='\S+/b/\*\.en': .* such as 'corpus/\*\.en'"),
        ("a/*/part0*", r"part0\.en-de\.de matches .* no dot-separated part .* is 'en': narrow"),
        ("a/*/part[12]*", r"a/0/part2\.en-de\.de\.zst matches data\.train="),
        ("*.en", r"x\.en matches .* there is no \S+/x\.de \(or \.gz, \.xz or \.zst of it\): add"),
        ("y/*en*", r"y/x\.en and \S+y/x\.en\.gz match data\.train=\S+: remove one"),
        ("z/*.en", r"z/x\.en has 1 lines but \S+z/x\.de has 2"),
        ("\0", r"No file matches data\.train="),
    ],
)
def test_invalid_glob_is_an_error(shards, pattern, message):
    files = {"x.en": 1, "y/x.en": 1, "y/x.en.gz": 1, "y/x.de": 1, "z/x.en": 1, "z/x.de": 2}
    for name, lines in files.items():
        (shards / name).parent.mkdir(exist_ok=True)
        (shards / name).write_text("one\n" * lines)
    with pytest.raises(UserError, match=message):
        load_globs(shards, pattern)
