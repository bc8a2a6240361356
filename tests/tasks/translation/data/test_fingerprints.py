"""Fingerprints of corpora change with every sentence that training or the dev metrics use."""

from types import SimpleNamespace

import pytest

from tasks.translation.data import corpora
from tasks.translation.task import Translation
from tests.commands import write_parallel_corpus, write_pronunciations


def text_fingerprint(directory):
    corpus = corpora.load("text_files", "en", "de", dir=str(directory))
    return Translation.data_fingerprint(SimpleNamespace(corpus=corpus))


def edit(path, change):
    path.write_text("".join(change(path.read_text().splitlines(keepends=True))))


@pytest.mark.parametrize(
    ("split", "languages", "change"),
    [
        ("train", ("en", "de"), lambda lines: lines[:300]),
        ("train", ("de",), lambda lines: lines[1:] + lines[:1]),
        ("train", ("de",), lambda lines: [*lines[:-1], lines[-1].upper()]),
        ("dev", ("en",), lambda lines: [lines[0].upper(), *lines[1:]]),
    ],
    ids=["400 to 300 pairs", "order", "one sentence", "dev sentence"],
)
def test_fingerprint_of_text_changes_with_the_text(tmp_path, split, languages, change):
    write_parallel_corpus(tmp_path, train=400, dev=3, test=3)
    before = text_fingerprint(tmp_path)
    assert before["train"].startswith("400 pairs (digest ")
    assert text_fingerprint(tmp_path) == before
    for language in languages:
        edit(tmp_path / f"{split}.{language}", change)
    after = text_fingerprint(tmp_path)
    assert {name for name in before if before[name] != after[name]} == {split}


def test_test_data_and_the_directory_may_change(tmp_path):
    write_parallel_corpus(tmp_path, train=9, dev=3, test=3)
    before = text_fingerprint(tmp_path)
    edit(tmp_path / "test.en", lambda lines: [line.upper() for line in lines])
    moved = tmp_path.rename(tmp_path.with_name("moved"))
    assert text_fingerprint(moved) == before


def test_fingerprint_of_pronunciations_changes_with_the_references(tmp_path):
    write_pronunciations(tmp_path)

    def fingerprint():
        corpus = corpora.load("cmudict", "letters", "phonemes", dir=str(tmp_path))
        return corpus["dev"].fingerprint

    before = fingerprint()
    assert fingerprint() == before
    edit(tmp_path / "dev.txt", lambda lines: [*lines, f"{lines[0].split()[0]}(2)  AH\n"])
    assert fingerprint() != before
