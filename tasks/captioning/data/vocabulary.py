"""Word vocabulary of captions."""

import itertools
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import SupportsInt

import numpy as np
from jaxtyping import Int32

from tasks.vocabulary import BOS, EOS, PAD, SPECIAL, UNK, is_trained, load_errors
from training.errors import UserError
from training.files import atomic_write

FILE = "vocabulary.txt"  # in the run directory

Captions = Sequence[Sequence[str]]  # of each image; words are separated by spaces


class WordVocabulary:
    """The most frequent words of the training captions; all others are UNK.

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

    @classmethod
    def train(cls, captions: Captions, size: int) -> "WordVocabulary":
        """Collect the most frequent words.

        Words of equal frequency are in alphabetical order, so that the order of the captions does
        not matter.

        Args:
            captions: captions of the training images.
            size: largest number of tokens, including the four special ones.

        Raises:
            UserError: if the size leaves no place for words, or there are no words.
        """
        if size <= len(SPECIAL):
            raise UserError(f"vocabulary_size={size} must be larger than {len(SPECIAL)}.")
        counts = Counter(
            word for several in captions for caption in several for word in caption.split()
        )
        if not counts:
            raise UserError("The training captions contain no words: choose other data.")
        ordered = sorted(counts, key=lambda word: (-counts[word], word))
        words = (word for word in ordered if word not in SPECIAL)
        return cls(itertools.islice(words, size - len(SPECIAL)))

    @classmethod
    def load(cls, path: Path) -> "WordVocabulary":
        """Read a file that `save` has written.

        Raises:
            UserError: if the file is missing or damaged.
        """
        with load_errors(path):
            words = path.read_text("utf-8").split("\n")
            if tuple(words[: len(SPECIAL)]) != SPECIAL:
                raise ValueError("not a list of words")
            return cls(words[len(SPECIAL) :])

    @classmethod
    def load_or_train(cls, workdir: Path, captions: Captions, size: int) -> "WordVocabulary":
        """Load the vocabulary of a run, or make it if neither its file nor a checkpoint exists.

        Raises:
            UserError: see `load` and `train`.
        """
        path = workdir / FILE
        if is_trained(path):
            return cls.load(path)
        vocabulary = cls.train(captions, size)
        vocabulary.save(path)
        return vocabulary

    def save(self, path: Path) -> None:
        """Write the tokens to a file, one per line, atomically."""
        with atomic_write(path) as file:
            file.write("\n".join(self.words).encode())

    def __len__(self) -> int:
        return len(self.words)

    def encode(self, caption: str) -> list[int]:
        """Return the ids of the words of a caption, without BOS and EOS."""
        return [self._ids.get(word, UNK) for word in caption.split()]

    def encode_captions(self, captions: Captions) -> Int32[np.ndarray, "N K T"]:
        """Return the ids of all captions, each with EOS, padded with PAD.

        K is the largest number of captions of an image: missing ones are PAD throughout.
        """
        encoded = [[[*self.encode(caption), EOS] for caption in several] for several in captions]
        count = max(map(len, encoded), default=0)
        length = max((len(ids) for several in encoded for ids in several), default=0)
        padded = np.full((len(encoded), count, length), PAD, np.int32)
        for n, several in enumerate(encoded):
            for k, ids in enumerate(several):
                padded[n, k, : len(ids)] = ids
        return padded

    def decode(self, ids: Iterable[Iterable[SupportsInt]]) -> list[str]:
        """Return the words of each sequence up to its first EOS, without PAD and BOS.

        Ids beyond the vocabulary, which an untrained model may generate, are UNK.
        """
        return [" ".join(self._words_before_eos(map(int, sequence))) for sequence in ids]

    def _words_before_eos(self, ids):
        for i in itertools.takewhile(lambda i: i != EOS, ids):
            if i not in (PAD, BOS):
                yield self.words[i if i < len(self.words) else UNK]
