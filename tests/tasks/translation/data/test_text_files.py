"""Parallel text files in a directory."""

import gzip

import pytest

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
        ("train.en", None, r"has no train\.en \(or \.gz of it\): add it"),
        ("train.en", b"one\ntwo\n", r"train\.en has 2 lines but .*train\.de\.gz has 3"),
        ("val.en", b"one\n \n", r"val\.en, line 2 is empty"),
        ("val.en", b"", r"val\.en is empty"),
        ("val.en", b"one\ntw\xff\n", r"val\.en, line 2 is not UTF-8"),
        ("train.de.gz", b"\x1f\x8bnot gzip", r"Cannot read .*train\.de\.gz"),
    ],
)
def test_invalid_file_is_an_error(directory, name, content, message):
    (directory / name).unlink()
    if content is not None:
        (directory / name).write_bytes(content)
    with pytest.raises(UserError, match=message):
        read_directory(directory, "en", "de")


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


def test_files_that_are_no_split_are_passed_over(directory):
    (directory / "vocab.en").write_text("a\nb\n\n")
    (directory / "vocab.de").write_text("a\n")
    (directory / "mono.de").write_bytes(b"\xff")
    (directory / "test_c.en").write_text("no translation\n")
    for name in ("._train.en", "._test_a.de", ".hidden.en"):
        (directory / name).write_bytes(b"\0\xff")
    splits = read_directory(directory, "en", "de")
    assert sorted(splits) == ["dev", "test", "test_b", "train"]
    assert splits.passed_over == ["mono.de", "test_c.en", "vocab.de", "vocab.en"]


@pytest.mark.parametrize("name", ["\0", "x" * 5000, "~no-such-user/text", ""])
def test_invalid_directory_name_is_an_error(name):
    with pytest.raises(UserError, match="There is no directory|has no train"):
        corpora.load("text_files", "en", "de", dir=name)
