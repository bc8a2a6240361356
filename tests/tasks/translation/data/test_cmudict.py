"""The CMU dictionary: its words, its splits, and split files in a directory."""

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


def read(directory):
    return corpora.load("cmudict", "letters", "phonemes", dir=str(directory))


def words(pairs):
    return [source.replace(" ", "") for source in pairs.sources]


def test_split_sizes_are_similar_to_those_of_the_papers(splits):
    """The papers have 106,837 training words, of which 2,670 are held out, and 12,000 for test."""
    distinct = {name: len(set(pairs.sources)) for name, pairs in splits.items()}
    total = sum(distinct.values())
    assert 120_000 < total < 130_000
    assert len(splits["train"]) > distinct["train"]
    assert distinct["test"] / total == pytest.approx(12_000 / 118_837, abs=0.003)
    assert distinct["dev"] / total == pytest.approx(2_670 / 118_837, abs=0.001)


def test_splits_are_disjoint(splits):
    train, dev, test = (set(words(splits[name])) for name in ("train", "dev", "test"))
    assert not train & dev
    assert not train & test
    assert not dev & test
    assert len(dev) == len(splits["dev"])
    assert len(test) == len(splits["test"])


def test_alphabet_is_27_graphemes_and_39_phonemes(splits):
    graphemes = set().union(*(word for pairs in splits.values() for word in pairs.sources))
    assert graphemes == {*"abcdefghijklmnopqrstuvwxyz' "}
    references = (alternatives for pairs in splits.values() for alternatives in pairs.references)
    distinct = {pronunciation for alternatives in references for pronunciation in alternatives}
    phonemes = {phoneme for pronunciation in distinct for phoneme in pronunciation.split()}
    assert len(phonemes) == 39
    assert all(re.fullmatch("[A-Z]{1,2}", phoneme) for phoneme in phonemes)


def test_training_pairs_are_all_pronunciations_once(splits):
    train = splits["train"]
    assert len(set(train)) == len(train)
    assert set(train) == {
        (source, pronunciation)
        for source, references in zip(train.sources, train.references, strict=True)
        for pronunciation in references
    }


def test_references_are_all_pronunciations_of_a_word(splits):
    references = {}
    for pairs in splits.values():
        references |= zip(words(pairs), pairs.references, strict=True)
    assert set(references["read"]) == {"R EH D", "R IY D"}
    assert references["record"] == ["R AH K AO R D", "R EH K ER D", "R IH K AO R D"]


def test_split_of_a_word_is_stable():
    """Results are only comparable if the hash never changes."""
    fractions = [round(cmudict.hash_fraction(word), 6) for word in ("hello", "o'hara")]
    assert fractions == [0.743656, 0.975121]


def test_files_of_2007_are_read_from_a_directory(tmp_path):
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


def test_comments_and_empty_lines_are_skipped(tmp_path):
    """The dictionary on GitHub has comments after phonemes, version 0.7b has lines with ;;;."""
    (tmp_path / "train.txt").write_text(
        ";;; # CMUdict  --  Major Version: 0.07\n;;;\n\n#HASH-MARK  HH AE1 SH M AA2 R K\n"
        "aalborg AO1 L B AO0 R G # place, danish\n  \ngdp G IY1 D IY1 P IY1 #abbrev\n# end\n"
    )
    (tmp_path / "test.txt").write_text("zz Z\n\n")
    (tmp_path / "dev.txt").write_text("aa AA1\n")
    (tmp_path / "._train.txt").write_bytes(b"\xff")
    splits = read(tmp_path)
    expected = [("a a l b o r g", "AO L B AO R G"), ("g d p", "G IY D IY P IY")]
    assert sorted(splits["train"]) == expected
    assert list(splits["test"]) == [("z z", "Z")]


def test_dev_words_are_held_out_without_a_dev_file(tmp_path):
    vocabulary = [f"{a}{b}{c}" for a in "abcdefghij" for b in "abcdefghij" for c in "abcdefghij"]
    (tmp_path / "train.txt").write_text("".join(f"{w} AA\n{w} B\n" for w in vocabulary))
    (tmp_path / "test.txt").write_text("zz Z\n")
    splits = read(tmp_path)
    assert 10 < len(splits["dev"]) < 45
    assert sorted({*words(splits["train"]), *words(splits["dev"])}) == vocabulary
    assert len(splits["train"]) == 2 * (1000 - len(splits["dev"]))


@pytest.mark.parametrize(
    "files, message",
    [
        ({"train.txt": TRAIN}, r"has no test file: add one, such as test\.txt"),
        (
            {"train.txt": TRAIN, "a.train": TRAIN, "test.txt": TEST},
            r"has a\.train and train\.txt: keep one file for train",
        ),
        (
            {"train.txt": TRAIN + "word\n", "test.txt": TEST},
            r"train\.txt, line 6 must be a word and its phonemes",
        ),
        (
            {"train.txt": "word # comment\n", "test.txt": TEST},
            r"train\.txt, line 1 must be a word and its phonemes",
        ),
    ],
)
def test_invalid_file_is_an_error(tmp_path, files, message):
    for name, content in files.items():
        (tmp_path / name).write_text(content)
    with pytest.raises(UserError, match=message):
        read(tmp_path)


def test_other_language_is_an_error():
    with pytest.raises(UserError, match=r"data\.source='letters' .* not 'en' and 'de'"):
        corpora.load("cmudict", "en", "de", dir="")


def test_missing_directory_is_an_error(tmp_path):
    with pytest.raises(UserError, match="There is no directory .*/nowhere"):
        read(tmp_path / "nowhere")
