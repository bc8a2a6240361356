"""Interface of the vocabularies."""

import os
import unicodedata
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import SupportsInt

from tasks.files import digest
from tasks.vocabulary import load_errors


class Vocabulary:
    """Conversion between text and token ids. Subclasses add a method `train`.

    The source and target language share a vocabulary, unless `source` and `target` differ.

    Args:
        model: content of a vocabulary file.

    Attributes:
        fingerprint: hex digest of the model, for caches that depend on it.
    """

    def __init__(self, model: bytes):
        self.fingerprint = digest([model])

    @classmethod
    def load(cls, path: str | os.PathLike) -> "Vocabulary":
        """Read a vocabulary file that `train` has written.

        Raises:
            UserError: if the file is missing or damaged.
        """
        with load_errors(Path(path)):
            return cls(Path(path).read_bytes())

    @property
    def source(self) -> "Vocabulary":
        """Vocabulary of the source language."""
        return self

    @property
    def target(self) -> "Vocabulary":
        """Vocabulary of the target language."""
        return self

    def __len__(self) -> int:
        """Return the number of tokens, of the larger vocabulary if the languages have their own."""
        raise NotImplementedError

    def normalize(self, text: str) -> str:
        """Return the Unicode normal form in which text is encoded and decoded."""
        raise NotImplementedError

    def encode(self, sentences: Sequence[str]) -> list[list[int]]:
        """Return the token ids of each sentence, without BOS and EOS."""
        raise NotImplementedError

    def decode(self, ids: Iterable[Iterable[SupportsInt]]) -> list[str]:
        """Return the text of each sequence of ids up to its first EOS, without PAD and BOS."""
        raise NotImplementedError

    def tokens(self, ids: Iterable[SupportsInt]) -> list[str]:
        """Return the token strings of ids, for example as axis labels."""
        raise NotImplementedError


def nfc(text: str) -> str:
    """Return the normal form C of Unicode."""
    return unicodedata.normalize("NFC", text)
