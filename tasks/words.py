"""Lists of the most frequent words of a text."""

import itertools
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import SupportsInt

from tasks.vocabulary import BOS, EOS, PAD, SPECIAL, UNK
from training.errors import UserError


class WordList:
    """Conversion between words and ids; words that are not in the list are UNK.

    Args:
        words: words in the order of their ids, without the special tokens.

    Raises:
        ValueError: if a word is empty, repeated, or has a space.
    """

    def __init__(self, words: Iterable[str]):
        self.words = (*SPECIAL, *words)
        self._ids = {word: i for i, word in enumerate(self.words) if i > UNK}
        if len(self._ids) + len(SPECIAL) < len(self.words):
            raise ValueError("a word occurs twice")
        if any(len(word.split()) != 1 for word in self.words):
            raise ValueError("a word is empty or has a space")

    def __len__(self) -> int:
        return len(self.words)

    def encode(self, sentence: str) -> list[int]:
        """Return the ids of the words of a sentence, without BOS and EOS."""
        return [self._ids.get(word, UNK) for word in sentence.split()]

    def decode(self, ids: Iterable[Iterable[SupportsInt]]) -> list[str]:
        """Return the words of each sequence up to its first EOS, without PAD and BOS."""
        return [" ".join(self._words_before_eos(map(int, sequence))) for sequence in ids]

    def word(self, i: int) -> str:
        """Return the word of an id; ids beyond the list, as of an untrained model, are UNK."""
        return self.words[i if i < len(self.words) else UNK]

    def _words_before_eos(self, ids):
        for i in itertools.takewhile(lambda i: i != EOS, ids):
            if i not in (PAD, BOS):
                yield self.word(i)


def most_frequent_words(counts: Counter[str], size: int, key: str) -> list[str]:
    """Return the most frequent words of a text, in descending order of frequency.

    Words of equal frequency are in alphabetical order, so that the order of the text does not
    matter.

    Args:
        counts: number of occurrences of each word.
        size: largest number of tokens of the list, including the four special ones.
        key: config key of the size, for errors.

    Raises:
        UserError: if the size leaves no place for words, or there are no words.
    """
    if size <= len(SPECIAL):
        raise UserError(f"{key}={size} must be larger than {len(SPECIAL)}.")
    if not counts:
        raise UserError("The training text contains no words: choose other data.")
    ordered = sorted(counts, key=lambda word: (-counts[word], word))
    words = (word for word in ordered if word not in SPECIAL)
    return list(itertools.islice(words, size - len(SPECIAL)))


def without_special(tokens: Sequence[str]) -> Sequence[str]:
    """Return the words of a stored list, which starts with the special tokens.

    Raises:
        ValueError: if it does not.
    """
    if tuple(tokens[: len(SPECIAL)]) != SPECIAL:
        raise ValueError("not a list of words")
    return tokens[len(SPECIAL) :]
