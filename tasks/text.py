"""Reading of UTF-8 text files."""

import gzip
import zlib
from pathlib import Path

from training.errors import UserError


def read_bytes(path: Path) -> bytes:
    """Read a file, decompressing it if its name ends in .gz.

    Raises:
        UserError: if the file cannot be read.
    """
    try:
        content = path.read_bytes()
        return gzip.decompress(content) if path.suffix == ".gz" else content
    except (OSError, EOFError, zlib.error) as error:
        raise UserError(f"Cannot read {path} ({error}): restore it.") from error


def decode_lines(content: bytes, name: str) -> list[str]:
    """Decode UTF-8 text into lines, with surrounding whitespace removed.

    Args:
        content: encoded text, optionally with a byte order mark.
        name: name of the file for error messages.

    Raises:
        UserError: if the text is not UTF-8.
    """
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise UserError(f"{name}, line {line} is not UTF-8: convert the file to UTF-8.") from error
    # Not str.splitlines, which also splits at separators that occur inside sentences.
    return [line.strip() for line in text.removesuffix("\n").split("\n")] if text else []
