"""Vocabularies of words, one for each language."""

import itertools
import os
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import SupportsInt

from tasks.translation.data.base_vocabulary import Vocabulary, nfc
from tasks.vocabulary import SPECIAL
from tasks.words import WordList, most_frequent_words, without_special
from training.files import atomic_write


class WordVocabulary(Vocabulary):
    """The most frequent words of a language in NFC, separated by spaces; all others are UNK."""

    def __init__(self, model: bytes):
        super().__init__(model)
        self._words = WordList(without_special(model.decode().split("\n")))

    def __len__(self) -> int:
        return len(self._words)

    def normalize(self, text: str) -> str:
        return nfc(text)

    def encode(self, sentences: Sequence[str]) -> list[list[int]]:
        return [self._words.encode(nfc(sentence)) for sentence in sentences]

    def decode(self, ids: Iterable[Iterable[SupportsInt]]) -> list[str]:
        return self._words.decode(ids)

    def tokens(self, ids: Iterable[SupportsInt]) -> list[str]:
        return [self._words.word(int(i)) for i in ids]


class BilingualWordVocabulary(Vocabulary):
    """A `WordVocabulary` for each language (Bahdanau et al. 2015; Luong et al. 2015)."""

    def __init__(self, model: bytes):
        super().__init__(model)
        source, target = model.split(b"\n\n")
        self._source, self._target = WordVocabulary(source), WordVocabulary(target)

    @classmethod
    def train(
        cls, sentences: Iterable[str], path: str | os.PathLike, *, size: int
    ) -> "BilingualWordVocabulary":
        """Collect the most frequent words of each language, and write them to a file.

        Args:
            sentences: source and target sentences, alternating.
            path: vocabulary file.
            size: largest number of tokens of each language, including the four special ones.

        Raises:
            UserError: if the size leaves no place for words, or a language has no words.
        """
        counts: tuple[Counter[str], Counter[str]] = (Counter(), Counter())
        for language, sentence in zip(itertools.cycle(counts), sentences, strict=False):
            language.update(nfc(sentence).split())
        key = "vocabulary.size"
        lists = ((*SPECIAL, *most_frequent_words(count, size, key)) for count in counts)
        model = "\n\n".join("\n".join(words) for words in lists).encode()
        with atomic_write(Path(path)) as file:
            file.write(model)
        return cls(model)

    @property
    def source(self) -> Vocabulary:
        return self._source

    @property
    def target(self) -> Vocabulary:
        return self._target

    def __len__(self) -> int:
        return max(len(self._source), len(self._target))
