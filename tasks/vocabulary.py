"""Special tokens, and the vocabulary file of a run directory."""

import contextlib
from collections.abc import Iterator
from pathlib import Path

from training import checkpoints
from training.errors import UserError

PAD, BOS, EOS, UNK = 0, 1, 2, 3
SPECIAL = ("<pad>", "<s>", "</s>", "<unk>")


def is_trained(path: Path) -> bool:
    """Return whether the run of a vocabulary file has its vocabulary.

    A run with checkpoints must have one, because they belong to it: if the file is missing, another
    vocabulary would assign other ids to the tokens.
    """
    saved = (path.parent / checkpoints.DIRECTORY).glob("[0-9]*")
    return path.exists() or any(saved)


def check_initial_weights(path: Path, init_from: str) -> None:
    """Check, before a vocabulary is trained, that the run does not start from other weights.

    Raises:
        UserError: if `train.init_from` names weights, whose embeddings belong to their vocabulary.
    """
    if init_from != "none":
        raise UserError(
            f"train.init_from={init_from} needs the vocabulary of its run: copy {path.name} to "
            f"{path.parent}."
        )


@contextlib.contextmanager
def load_errors(path: Path) -> Iterator[None]:
    """Convert errors of reading a vocabulary file into a `UserError`."""
    try:
        yield
    except (OSError, RuntimeError, ValueError) as error:
        raise UserError(
            f"The vocabulary {path} is missing or damaged: restore the file that belongs to the "
            "checkpoints of this run, or start the run again in a new workdir."
        ) from error
