"""The pronouncing dictionary: which words, which split, and the split of 2007 from a folder."""

import gzip
import re

import pytest

from tasks.translation.data import cmudict, corpora
from training.errors import UserError

TRAIN = "ABBEY\tAE1 B IY0\nread  R EH1 D\nREAD(2)  R IY1 D\nTESTED T EH S T IH D\nA.M. EY EH M\n"
TEST = "tested  T EH1 S T AH0 D\nO'Hara  OW HH EH R AH\nO'HARA(1)  OW0 HH EH1 R AH0\n"


@pytest.fixture(scope="module")
def splits():
    return corpora.load("cmudict", "letters", "phonemes", dir="")


def read(folder):
    return corpora.load("cmudict", "letters", "phonemes", dir=str(folder))


def words(pairs):
    return [source.replace(" ", "") for source in pairs.sources]


def test_sizes_are_about_those_of_the_papers(splits):
    """Theirs are of fewer words: 106,837, 2,670 of them held out, and 12,000 to test on."""
    distinct = {name: len(set(pairs.sources)) for name, pairs in splits.items()}
    whole = sum(distinct.values())
    assert 120_000 < whole < 130_000 and len(splits["train"]) > distinct["train"]
    assert distinct["test"] / whole == pytest.approx(12_000 / 118_837, abs=0.003)
    assert distinct["dev"] / whole == pytest.approx(2_670 / 118_837, abs=0.001)


def test_no_word_is_on_two_sides(splits):
    of = {name: set(words(pairs)) for name, pairs in splits.items()}
    assert not of["train"] & of["dev"] | of["train"] & of["test"] | of["dev"] & of["test"]
    assert all(len(of[name]) == len(splits[name]) for name in ("dev", "test"))


def test_27_letters_and_39_phonemes(splits):
    sources = {letter for pairs in splits.values() for word in pairs.sources for letter in word}
    assert sources == {*"abcdefghijklmnopqrstuvwxyz' "}
    phonemes = {
        phoneme
        for pairs in splits.values()
        for spoken in pairs.references
        for pronunciation in spoken
        for phoneme in pronunciation.split()
    }
    assert len(phonemes) == 39 and all(re.fullmatch("[A-Z]{1,2}", p) for p in phonemes)


def test_training_has_every_pronunciation_once(splits):
    train = splits["train"]
    assert len(set(train)) == len(train)
    assert set(train) == {
        (source, spoken)
        for source, several in zip(train.sources, train.references, strict=True)
        for spoken in several
    }


def test_evaluation_knows_all_references_of_a_word(splits):
    known = {
        word: several
        for pairs in splits.values()
        for word, several in zip(words(pairs), pairs.references, strict=True)
    }
    assert set(known["read"]) == {"R EH D", "R IY D"}
    assert known["record"] == ["R AH K AO R D", "R EH K ER D", "R IH K AO R D"]


def test_a_word_stays_on_its_side_whatever_the_edition():
    """Were the place of a word another one day, results would no longer compare."""
    assert [round(cmudict.place(word), 6) for word in ("hello", "o'hara")] == [
        0.743656,
        0.975121,
    ]


def test_a_folder_with_the_files_of_2007(tmp_path):
    (tmp_path / "cmudict.dic.train").write_text(TRAIN)
    (tmp_path / "cmudict.dic.test.gz").write_bytes(gzip.compress(TEST.encode()))
    (tmp_path / "valid.txt").write_text("READ R EH D\n")
    (tmp_path / "README").write_text("not a split")
    splits = read(tmp_path)
    assert list(splits["train"]) == [("a b b e y", "AE B IY")]
    assert list(splits["dev"]) == [("r e a d", "R EH D")]
    assert sorted(zip(splits["test"].sources, splits["test"].references, strict=True)) == [
        ("o ' h a r a", ["OW HH EH R AH"]),
        ("t e s t e d", ["T EH S T AH D"]),
    ]


def test_without_a_dev_file_a_fortieth_of_the_training_words_is_held_out(tmp_path):
    lines = [f"{'abcdefghij'[n // 100]}{'abcdefghij'[n // 10 % 10]}{'abcdefghij'[n % 10]}"
             for n in range(1000)]  # fmt: skip
    (tmp_path / "train.txt").write_text("".join(f"{w} AA\n{w} B\n" for w in lines))
    (tmp_path / "test.txt").write_text("zz Z\n")
    splits = read(tmp_path)
    assert 10 < len(splits["dev"]) < 45
    assert sorted({*words(splits["train"]), *words(splits["dev"])}) == lines
    assert len(splits["train"]) == 2 * (1000 - len(splits["dev"]))


@pytest.mark.parametrize(
    "files, sentence",
    [
        ({"train.txt": TRAIN}, r"has no file for test, as test\.txt: add it"),
        (
            {"train.txt": TRAIN, "a.train": TRAIN, "test.txt": TEST},
            r"has a\.train and train\.txt: keep one file for train",
        ),
        (
            {"train.txt": TRAIN + "word\n", "test.txt": TEST},
            r"train\.txt, line 6: must be a word and its phonemes",
        ),
    ],
)
def test_files_at_fault_are_named(tmp_path, files, sentence):
    for name, content in files.items():
        (tmp_path / name).write_text(content)
    with pytest.raises(UserError, match=sentence):
        read(tmp_path)


def test_other_languages_and_a_folder_that_is_not_there_are_named(tmp_path):
    with pytest.raises(UserError, match=r"data\.source='letters' .* not from 'en' to 'de'"):
        corpora.load("cmudict", "en", "de", dir="")
    with pytest.raises(UserError, match="there is no folder .*/nowhere"):
        read(tmp_path / "nowhere")
