"""A subword vocabulary shared by both languages: byte-pair encoding by sentencepiece.

Sennrich et al. 2016 (https://arxiv.org/abs/1508.07909), as Vaswani et al. 2017 use it. Text is
taken as it stands (no Unicode normalisation; runs of spaces become one), so that decoding gives
back what was encoded, provided every character of it occurred in the training text.
"""

import hashlib
import io
import os
import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import SupportsInt

import sentencepiece

from tasks.data.files import replacing
from training.errors import UserError

PAD, BOS, EOS, UNK = 0, 1, 2, 3


class Vocabulary:
    """Text to piece numbers and back. Make one with `train` or `load`.

    Attributes:
        fingerprint: hex digest of the model, for caches that depend on it.
    """

    def __init__(self, model: bytes):
        self._processor = sentencepiece.SentencePieceProcessor()
        self._processor.load_from_serialized_proto(model)
        self.fingerprint = hashlib.blake2b(model, digest_size=16).hexdigest()

    @classmethod
    def train(cls, sentences: Iterable[str], size: int, path: str | os.PathLike) -> "Vocabulary":
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

    @classmethod
    def load(cls, path: str | os.PathLike) -> "Vocabulary":
        """Reads what `train` wrote.

        Raises:
            UserError: the file is missing or no sentencepiece model.
        """
        try:
            return cls(Path(path).read_bytes())
        except (OSError, RuntimeError) as error:
            raise UserError(
                f"the vocabulary {path} is missing or damaged: restore the file, or start the run "
                "again in a new workdir (it belongs to the checkpoints beside it)"
            ) from error

    def __len__(self) -> int:
        return self._processor.get_piece_size()

    def encode(self, sentences: Sequence[str]) -> list[list[int]]:
        """Piece numbers of each sentence, without BOS or EOS, on all cores."""
        return self._processor.encode(list(sentences), num_threads=os.cpu_count())

    def decode(self, ids: Iterable[Iterable[SupportsInt]]) -> list[str]:
        """Text of each row up to its first EOS; PAD and BOS are skipped."""
        rows = [_before_eos(row) for row in ids]
        return self._processor.decode(rows) if rows else []  # it would give '' for no rows

    def pieces(self, ids: Iterable[SupportsInt]) -> list[str]:
        """What each number stands for, as a label of a picture's axis ('▁' starts a word)."""
        return [self._processor.id_to_piece(int(i)) for i in ids]


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
