"""Vocabularies of subwords, symbols or words."""

import io
import itertools
import os
import re
import sys
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, SupportsInt

import sentencepiece
from google.protobuf.message import DecodeError  # type: ignore[import-untyped]
from sentencepiece import sentencepiece_model_pb2

from tasks.subsets import fixed_reservoir
from tasks.translation.data.base_vocabulary import Vocabulary, nfc
from tasks.translation.data.word_vocabulary import BilingualWordVocabulary
from tasks.vocabulary import BOS, EOS, PAD, SPECIAL, UNK
from tasks.words import without_special
from training import mesh
from training.errors import UserError
from training.files import atomic_write
from training.registry import lookup

NORMALIZATIONS = ("nfc", "none")

# Sentencepiece (0.2.3, tried with every code point) cannot learn the name of a special token, nor
# these characters: U+0000, final line breaks, its separator U+001F, its mark of a space U+2581 and
# of an unknown character U+2585. `_escape` writes a character as a noncharacter, which Unicode
# reserves for internal use, and a digit. The names of the special tokens contain the noncharacter,
# so that they do not occur in escaped text.
_ESCAPE = "\ufdd0"
_RESERVED = f"{_ESCAPE}\0\n\r\x1f\u2581\u2585"
_ESCAPES = str.maketrans({c: f"{_ESCAPE}{i}" for i, c in enumerate(_RESERVED)})
_LONGEST_LINE = 2**30  # bytes, sentencepiece's maximum; it leaves out longer lines


class SubwordVocabulary(Vocabulary):
    """Byte-pair encoding, with sentencepiece.

    Source: Sennrich et al. 2016 (https://arxiv.org/abs/1508.07909), as used by Vaswani et al. 2017.
    Text is normalized to NFC, or not at all, and consecutive spaces are merged. `decode` inverts
    `encode` up to both if every character occurred in the training text.
    """

    def __init__(self, model: bytes):
        super().__init__(model)
        self._processor = sentencepiece.SentencePieceProcessor()
        self._processor.load_from_serialized_proto(model)
        pieces = self._processor.id_to_piece(list(range(len(self))))
        self._tokens = [*SPECIAL, *pieces[len(SPECIAL) :]]
        # Vocabularies of version 0.1.0 have another name here: no normalization and no escapes.
        self._normalization = _parse(model).normalizer_spec.name

    @classmethod
    def train(
        cls,
        sentences: Iterable[str],
        path: str | os.PathLike,
        *,
        size: int,
        lowercase: bool,
        normalization: str,
        sample: int,
    ) -> "SubwordVocabulary":
        """Learn a vocabulary from sentences of both languages, and write it atomically.

        The result is deterministic.

        Args:
            sentences: training text.
            path: vocabulary file.
            size: number of tokens, including the four special ones.
            lowercase: whether `encode` lowercases. The rule is part of the vocabulary file.
            normalization: Unicode normal form of all text, 'nfc' or 'none'; also part of the file.
            sample: number of random sentences to learn from, which are kept in memory; 0 for all.

        Raises:
            UserError: if the text is empty, too short for this size, or has too many characters, or
                an argument is invalid.
        """
        if normalization not in NORMALIZATIONS:
            raise UserError(
                f"vocabulary.normalization={normalization!r} must be one of "
                f"{', '.join(NORMALIZATIONS)}."
            )
        if not len(SPECIAL) < size < 2**31:
            raise UserError(f"vocabulary.size={size} must be more than 4 and less than 2^31.")
        if sample < 0:
            raise UserError(
                f"vocabulary.sample={sample} must be a number of sentences, or 0 for all."
            )
        if sample:
            sentences = fixed_reservoir(sentences, sample)
        normalize = nfc if normalization == "nfc" else str
        text = (_escape(normalize(sentence)) for sentence in sentences)
        errors: list[Exception] = []  # sentencepiece replaces exceptions of the text by its own
        model = io.BytesIO()
        try:
            with tempfile.NamedTemporaryFile("w", encoding="utf-8", suffix=".tsv") as rules:
                if lowercase:
                    rules.write(_lowercase_rules())
                    rules.flush()
                sentencepiece.SentencePieceTrainer.train(
                    sentence_iterator=_collect_error(text, errors),
                    model_writer=model,
                    model_type="bpe",
                    vocab_size=size,
                    pad_id=PAD,
                    bos_id=BOS,
                    eos_id=EOS,
                    unk_id=UNK,
                    pad_piece=f"{_ESCAPE}pad",
                    bos_piece=f"{_ESCAPE}bos",
                    eos_piece=f"{_ESCAPE}eos",
                    unk_piece=f"{_ESCAPE}unk",
                    max_sentence_length=_LONGEST_LINE,
                    character_coverage=1.0,
                    byte_fallback=False,
                    normalization_rule_name="" if lowercase else "identity",
                    normalization_rule_tsv=rules.name if lowercase else "",
                    num_threads=1,
                    minloglevel=2,
                )
        except (RuntimeError, ValueError) as error:
            if errors:
                raise errors[0] from None
            raise UserError(_size_error(size, str(error))) from error
        proto = _parse(model.getvalue())
        proto.normalizer_spec.name = normalization
        content = proto.SerializeToString(deterministic=True)
        with atomic_write(Path(path)) as file:
            file.write(content)
        return cls(content)

    def __len__(self) -> int:
        return self._processor.get_piece_size()

    def normalize(self, text: str) -> str:
        return nfc(text) if self._normalization == "nfc" else text

    def encode(self, sentences: Sequence[str]) -> list[list[int]]:
        if self._normalization in NORMALIZATIONS:
            sentences = [_escape(self.normalize(sentence)) for sentence in sentences]
        return self._processor.encode(list(sentences), num_threads=mesh.available_cpus())

    def decode(self, ids: Iterable[Iterable[SupportsInt]]) -> list[str]:
        sequences = [_strip_special(sequence) for sequence in ids]
        if not sequences:
            return []  # sentencepiece returns ''
        return [self.normalize(_unescape(text)) for text in self._processor.decode(sequences)]

    def tokens(self, ids: Iterable[SupportsInt]) -> list[str]:
        """Return the token strings of ids; '▁' marks the start of a word."""
        return [self._tokens[int(i)] for i in ids]


class SymbolVocabulary(Vocabulary):
    """Vocabulary of the space-separated symbols of the training text, such as letters and phonemes.

    A word that is not a symbol is encoded as its lowercase letters, so that `hello` is equivalent
    to `h e l l o`; unknown letters are UNK. Symbols are equal if their NFC forms are.
    """

    def __init__(self, model: bytes):
        super().__init__(model)
        self._symbols = model.decode().split("\n")
        without_special(self._symbols)  # checks that the file is a list of symbols
        self._id = {nfc(symbol): i for i, symbol in enumerate(self._symbols) if i > UNK}

    @classmethod
    def train(cls, sentences: Iterable[str], path: str | os.PathLike) -> "SymbolVocabulary":
        """Collect the symbols of the sentences, and write them to a file, one per line."""
        distinct = sorted({symbol for sentence in sentences for symbol in nfc(sentence).split()})
        model = "\n".join((*SPECIAL, *distinct)).encode()
        with atomic_write(Path(path)) as file:
            file.write(model)
        return cls(model)

    def __len__(self) -> int:
        return len(self._symbols)

    def normalize(self, text: str) -> str:
        return nfc(text)

    def encode(self, sentences: Sequence[str]) -> list[list[int]]:
        return [
            [
                self._id.get(symbol, UNK)
                for word in nfc(sentence).split()
                for symbol in ([word] if word in self._id else word.lower())
            ]
            for sentence in sentences
        ]

    def decode(self, ids: Iterable[Iterable[SupportsInt]]) -> list[str]:
        return [nfc(" ".join(self.tokens(_strip_special(sequence)))) for sequence in ids]

    def tokens(self, ids: Iterable[SupportsInt]) -> list[str]:
        return [self._symbols[int(i)] for i in ids]


VOCABULARIES: dict[str, Any] = {
    "bpe": SubwordVocabulary,
    "symbols": SymbolVocabulary,
    "words": BilingualWordVocabulary,
}


def select_vocabulary(kind: str, **options: Any) -> tuple[Any, dict[str, Any]]:
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


def _parse(model: bytes) -> Any:
    """Parse a model file of sentencepiece; raises ValueError if it is damaged."""
    try:
        return sentencepiece_model_pb2.ModelProto.FromString(model)  # type: ignore[attr-defined]
    except DecodeError as error:
        raise ValueError(str(error)) from error


def _escape(text: str) -> str:
    """Replace the characters that sentencepiece reserves."""
    return text.translate(_ESCAPES)


def _unescape(text: str) -> str:
    """Invert `_escape`."""
    return re.sub(f"{_ESCAPE}([0-6])", lambda match: _RESERVED[int(match[1])], text)


def _collect_error(items: Iterable[str], errors: list[Exception]) -> Iterator[str]:
    """Yield the items, and append an exception that they raise to `errors`."""
    try:
        yield from items
    except Exception as error:
        errors.append(error)
        raise


def _lowercase_rules() -> str:
    """Return sentencepiece normalization rules that map each character to its lower case."""
    characters = ((c, chr(c).lower()) for c in range(sys.maxunicode + 1))
    return "".join(
        f"{c:X}\t{' '.join(f'{ord(x):X}' for x in lower)}\n"
        for c, lower in characters
        if lower != chr(c)
    )


def _size_error(size: int, message: str) -> str:
    """Convert an error message of sentencepiece about the vocabulary size or the text."""
    if "sentences_.empty()" in message:
        return "The training text is empty: add sentences to the train split."
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
