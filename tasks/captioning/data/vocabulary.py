"""Word vocabulary of captions."""

import itertools
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from jaxtyping import Int32

from tasks.vocabulary import EOS, PAD, check_initial_weights, is_trained, load_errors
from tasks.words import WordList, most_frequent_words, without_special
from training.files import atomic_write

FILE = "vocabulary.txt"  # in the run directory

Captions = Sequence[Sequence[str]]  # of each image; words are separated by spaces


class WordVocabulary(WordList):
    """The most frequent words of the training captions; see `WordList`."""

    @classmethod
    def train(cls, captions: Captions, size: int) -> "WordVocabulary":
        """Collect at most `size` tokens, including the four special ones.

        Raises:
            UserError: if the size leaves no place for words, or there are no words.
        """
        sentences = itertools.chain.from_iterable(captions)
        counts = Counter(word for sentence in sentences for word in sentence.split())
        return cls(most_frequent_words(counts, size, key="vocabulary_size"))

    @classmethod
    def load(cls, path: Path) -> "WordVocabulary":
        """Read a file that `save` has written.

        Raises:
            UserError: if the file is missing or damaged.
        """
        with load_errors(path):
            return cls(without_special(path.read_text("utf-8").split("\n")))

    @classmethod
    def load_or_train(
        cls, workdir: Path, captions: Callable[[], Captions], size: int, init_from: str = "none"
    ) -> "WordVocabulary":
        """Load the vocabulary of a run, or make it if neither its file nor a checkpoint exists.

        Raises:
            UserError: see `load`, `train` and `tasks.vocabulary.check_initial_weights`.
        """
        path = workdir / FILE
        if is_trained(path):
            return cls.load(path)
        check_initial_weights(path, init_from)
        vocabulary = cls.train(captions(), size)
        vocabulary.save(path)
        return vocabulary

    def save(self, path: Path) -> None:
        """Write the tokens to a file, one per line, atomically."""
        with atomic_write(path) as file:
            file.write("\n".join(self.words).encode())

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
