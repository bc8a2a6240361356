"""Vocabularies of subwords or of symbols, shared by the source and target language."""

import hashlib
import io
import itertools
import os
import re
import sys
import tempfile
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, SupportsInt

import sentencepiece

from training import mesh
from training.errors import UserError
from training.files import atomic_write
from training.registry import lookup

PAD, BOS, EOS, UNK = 0, 1, 2, 3
SPECIAL = ("<pad>", "<s>", "</s>", "<unk>")


class Vocabulary:
    """Conversion between text and token ids. Subclasses add a method `train`.

    Args:
        model: content of a vocabulary file.

    Attributes:
        fingerprint: hex digest of the model, for caches that depend on it.
    """

    def __init__(self, model: bytes):
        self.fingerprint = hashlib.blake2b(model, digest_size=16).hexdigest()

    @classmethod
    def load(cls, path: str | os.PathLike) -> "Vocabulary":
        """Read a vocabulary file that `train` has written.

        Raises:
            UserError: if the file is missing or damaged.
        """
        try:
            return cls(Path(path).read_bytes())
        except (OSError, RuntimeError, ValueError) as error:
            raise UserError(
                f"The vocabulary {path} is missing or damaged: restore the file that belongs to "
                "the checkpoints of this run, or start the run again in a new workdir."
            ) from error

    def __len__(self) -> int:
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


class SubwordVocabulary(Vocabulary):
    """Byte-pair encoding, with sentencepiece.

    Source: Sennrich et al. 2016 (https://arxiv.org/abs/1508.07909), as used by Vaswani et al. 2017.
    Text is not Unicode-normalized, but consecutive spaces are merged. `decode` inverts `encode` if
    every character occurred in the training text.
    """

    def __init__(self, model: bytes):
        super().__init__(model)
        self._processor = sentencepiece.SentencePieceProcessor()
        self._processor.load_from_serialized_proto(model)

    @classmethod
    def train(
        cls, sentences: Iterable[str], path: str | os.PathLike, *, size: int, lowercase: bool
    ) -> "SubwordVocabulary":
        """Learn a vocabulary from sentences of both languages, and write it atomically.

        The result is deterministic.

        Args:
            sentences: training text.
            path: vocabulary file.
            size: number of tokens, including the four special ones.
            lowercase: whether `encode` lowercases. The rule is part of the vocabulary file.

        Raises:
            UserError: if the text is too short for this size, or has too many characters.
        """
        model = io.BytesIO()
        try:
            with tempfile.NamedTemporaryFile("w", suffix=".tsv") as rules:
                if lowercase:
                    rules.write(_lowercase_rules())
                    rules.flush()
                sentencepiece.SentencePieceTrainer.train(
                    sentence_iterator=iter(sentences),
                    model_writer=model,
                    model_type="bpe",
                    vocab_size=size,
                    pad_id=PAD,
                    bos_id=BOS,
                    eos_id=EOS,
                    unk_id=UNK,
                    character_coverage=1.0,
                    byte_fallback=False,
                    normalization_rule_name="" if lowercase else "identity",
                    normalization_rule_tsv=rules.name if lowercase else "",
                    num_threads=1,
                    minloglevel=2,
                )
        except RuntimeError as error:
            raise UserError(_size_error(size, str(error))) from error
        with atomic_write(Path(path)) as file:
            file.write(model.getvalue())
        return cls(model.getvalue())

    def __len__(self) -> int:
        return self._processor.get_piece_size()

    def encode(self, sentences: Sequence[str]) -> list[list[int]]:
        return self._processor.encode(list(sentences), num_threads=mesh.available_cpus())

    def decode(self, ids: Iterable[Iterable[SupportsInt]]) -> list[str]:
        sequences = [_strip_special(sequence) for sequence in ids]
        return self._processor.decode(sequences) if sequences else []  # decode([]) returns ''

    def tokens(self, ids: Iterable[SupportsInt]) -> list[str]:
        """Return the token strings of ids; '▁' marks the start of a word."""
        return [self._processor.id_to_piece(int(i)) for i in ids]


class SymbolVocabulary(Vocabulary):
    """Vocabulary of the space-separated symbols of the training text, such as letters and phonemes.

    A word that is not a symbol is encoded as its lowercase letters, so that `hello` is equivalent
    to `h e l l o`; unknown letters are UNK.
    """

    def __init__(self, model: bytes):
        super().__init__(model)
        self._symbols = model.decode().split("\n")
        if tuple(self._symbols[:4]) != SPECIAL:
            raise ValueError("not a list of symbols")
        self._id = {symbol: i for i, symbol in enumerate(self._symbols) if i > UNK}

    @classmethod
    def train(cls, sentences: Iterable[str], path: str | os.PathLike) -> "SymbolVocabulary":
        """Collect the symbols of the sentences, and write them to a file, one per line."""
        distinct = sorted({symbol for sentence in sentences for symbol in sentence.split()})
        model = "\n".join((*SPECIAL, *(s for s in distinct if s not in SPECIAL))).encode()
        with atomic_write(Path(path)) as file:
            file.write(model)
        return cls(model)

    def __len__(self) -> int:
        return len(self._symbols)

    def encode(self, sentences: Sequence[str]) -> list[list[int]]:
        return [
            [
                self._id.get(symbol, UNK)
                for word in sentence.split()
                for symbol in ([word] if word in self._id else word.lower())
            ]
            for sentence in sentences
        ]

    def decode(self, ids: Iterable[Iterable[SupportsInt]]) -> list[str]:
        return [" ".join(self.tokens(_strip_special(sequence))) for sequence in ids]

    def tokens(self, ids: Iterable[SupportsInt]) -> list[str]:
        return [self._symbols[int(i)] for i in ids]


VOCABULARIES: dict[str, type[SubwordVocabulary | SymbolVocabulary]] = {
    "bpe": SubwordVocabulary,
    "symbols": SymbolVocabulary,
}


def select_vocabulary(
    kind: str, **options: Any
) -> tuple[type[SubwordVocabulary | SymbolVocabulary], dict[str, Any]]:
    """Return the class selected by `config.vocabulary` and the options of its `train`.

    Raises:
        UserError: if the kind or an option does not exist, or an option is missing.
    """
    trainers = {name: vocabulary.train for name, vocabulary in VOCABULARIES.items()}
    lookup(trainers, kind, key="vocabulary.kind", section="vocabulary", options=options)
    return VOCABULARIES[kind], options


def _strip_special(ids: Iterable[SupportsInt]) -> list[int]:
    """Return the ids before the first EOS, without PAD and BOS."""
    before_eos = itertools.takewhile(lambda i: i != EOS, map(int, ids))
    return [i for i in before_eos if i not in (PAD, BOS)]


def _lowercase_rules() -> str:
    """Return sentencepiece normalization rules that map each character to its lower case."""
    characters = ((c, chr(c).lower()) for c in range(sys.maxunicode + 1))
    return "".join(
        f"{c:X}\t{' '.join(f'{ord(x):X}' for x in lower)}\n"
        for c, lower in characters
        if lower != chr(c)
    )


def _size_error(size: int, message: str) -> str:
    """Convert an error message of sentencepiece about the vocabulary size."""
    if largest := re.search(r"too high.*<= (\d+)", message):
        return (
            f"vocabulary.size={size} is larger than this text supports: "
            f"set vocabulary.size to {largest[1]} or less."
        )
    if smallest := re.search(r"smaller than required_chars\D*\d+ vs (\d+)", message):
        return (
            f"vocabulary.size={size} is smaller than the number of characters in this text: "
            f"set vocabulary.size to more than {smallest[1]}."
        )
    return f"Cannot train a vocabulary of vocabulary.size={size} on this text: {message}"
