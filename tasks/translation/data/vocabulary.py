"""Vocabularies, each shared by both sides of a corpus: subwords, or symbols as they stand."""

import hashlib
import io
import os
import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import SupportsInt

import sentencepiece

from training import mesh
from training.choices import choose
from training.errors import UserError
from training.files import replacing

PAD, BOS, EOS, UNK = 0, 1, 2, 3
SPECIAL = ("<pad>", "<s>", "</s>", "<unk>")


class Vocabulary:
    """Text to numbers and back. Make one of a kind with its `train` or `load`.

    Attributes:
        fingerprint: hex digest of the model, for caches that depend on it.
    """

    def __init__(self, model: bytes):
        self.fingerprint = hashlib.blake2b(model, digest_size=16).hexdigest()

    @classmethod
    def load(cls, path: str | os.PathLike) -> "Vocabulary":
        """Reads what `train` wrote.

        Raises:
            UserError: the file is missing or not what this kind of vocabulary writes.
        """
        try:
            return cls(Path(path).read_bytes())
        except (OSError, RuntimeError, ValueError) as error:
            raise UserError(
                f"the vocabulary {path} is missing or damaged: restore the file, or start the run "
                "again in a new workdir (it belongs to the checkpoints beside it)"
            ) from error

    def __len__(self) -> int:
        raise NotImplementedError

    def encode(self, sentences: Sequence[str]) -> list[list[int]]:
        """Numbers of each sentence, without BOS or EOS."""
        raise NotImplementedError

    def decode(self, ids: Iterable[Iterable[SupportsInt]]) -> list[str]:
        """Text of each row up to its first EOS; PAD and BOS are skipped."""
        raise NotImplementedError

    def pieces(self, ids: Iterable[SupportsInt]) -> list[str]:
        """What each number stands for, as a label of a picture's axis."""
        raise NotImplementedError


class BytePairs(Vocabulary):
    """Subwords by byte-pair encoding, with sentencepiece.

    Sennrich et al. 2016 (https://arxiv.org/abs/1508.07909), as Vaswani et al. 2017 use it. Text is
    taken as it stands (no Unicode normalisation; runs of spaces become one), so that decoding gives
    back what was encoded, provided every character of it occurred in the training text.
    """

    def __init__(self, model: bytes):
        super().__init__(model)
        self._processor = sentencepiece.SentencePieceProcessor()
        self._processor.load_from_serialized_proto(model)

    @classmethod
    def train(cls, sentences: Iterable[str], path: str | os.PathLike, *, size: int) -> "BytePairs":
        """Learns `size` pieces (four of them special) from sentences of both languages.

        The model is a function of the sentences and the size alone, and appears at `path` whole
        or not at all.

        Raises:
            UserError: the text does not support that many pieces, or not that few.
        """
        model = io.BytesIO()
        try:
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
                normalization_rule_name="identity",
                num_threads=1,
                minloglevel=2,
            )
        except RuntimeError as error:
            raise UserError(_size_error(size, str(error))) from error
        with replacing(Path(path)) as file:
            file.write(model.getvalue())
        return cls(model.getvalue())

    def __len__(self) -> int:
        return self._processor.get_piece_size()

    def encode(self, sentences: Sequence[str]) -> list[list[int]]:
        """Piece numbers of each sentence, without BOS or EOS, on all cores we have."""
        return self._processor.encode(list(sentences), num_threads=mesh.available_cpus())

    def decode(self, ids: Iterable[Iterable[SupportsInt]]) -> list[str]:
        """Text of each row up to its first EOS; PAD and BOS are skipped."""
        rows = [_before_eos(row) for row in ids]
        return self._processor.decode(rows) if rows else []  # it would give '' for no rows

    def pieces(self, ids: Iterable[SupportsInt]) -> list[str]:
        """What each number stands for, as a label of a picture's axis ('▁' starts a word)."""
        return [self._processor.id_to_piece(int(i)) for i in ids]


class Symbols(Vocabulary):
    """Symbols between spaces, all that occur, as letters and phonemes.

    A word that is no symbol is spelt out in its lower-case letters, so that `hello` is read as
    `h e l l o`; a letter that never occurred is UNK.
    """

    def __init__(self, model: bytes):
        super().__init__(model)
        self._symbols = model.decode().split("\n")
        if tuple(self._symbols[:4]) != SPECIAL:
            raise ValueError("not a list of symbols")
        self._number = {symbol: i for i, symbol in enumerate(self._symbols) if i > UNK}

    @classmethod
    def train(cls, sentences: Iterable[str], path: str | os.PathLike) -> "Symbols":
        """Collects the symbols, and lists them at `path`, a line each."""
        found = sorted({symbol for sentence in sentences for symbol in sentence.split()})
        model = "\n".join((*SPECIAL, *(s for s in found if s not in SPECIAL))).encode()
        with replacing(Path(path)) as file:
            file.write(model)
        return cls(model)

    def __len__(self) -> int:
        return len(self._symbols)

    def encode(self, sentences: Sequence[str]) -> list[list[int]]:
        return [
            [
                self._number.get(symbol, UNK)
                for word in sentence.split()
                for symbol in ([word] if word in self._number else word.lower())
            ]
            for sentence in sentences
        ]

    def decode(self, ids: Iterable[Iterable[SupportsInt]]) -> list[str]:
        return [" ".join(self.pieces(_before_eos(row))) for row in ids]

    def pieces(self, ids: Iterable[SupportsInt]) -> list[str]:
        return [self._symbols[int(i)] for i in ids]


KINDS: dict[str, type[BytePairs | Symbols]] = {"bpe": BytePairs, "symbols": Symbols}


def of_kind(kind: str, **options: int) -> tuple[type[BytePairs | Symbols], dict[str, int]]:
    """The class that a config's `vocabulary` block asks for, and the options of its `train`.

    Raises:
        UserError: an unknown kind or option, or one that is missing.
    """
    trainers = {name: known.train for name, known in KINDS.items()}
    choose(trainers, kind, key="vocabulary.kind", section="vocabulary", options=options)
    return KINDS[kind], options


def _before_eos(row: Iterable[SupportsInt]) -> list[int]:
    kept = []
    for i in row:
        if i == EOS:
            break
        if i not in (PAD, BOS):
            kept.append(int(i))
    return kept


def _size_error(size: int, message: str) -> str:
    if largest := re.search(r"too high.*<= (\d+)", message):
        return (
            f"vocabulary.size={size} is more than this text supports: "
            f"set vocabulary.size to {largest[1]} or less"
        )
    if smallest := re.search(r"smaller than required_chars\D*\d+ vs (\d+)", message):
        return (
            f"vocabulary.size={size} does not even hold the characters of this text: "
            f"set vocabulary.size to more than {smallest[1]}"
        )
    return f"no vocabulary of vocabulary.size={size} could be learned from this text: {message}"
