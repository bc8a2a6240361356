"""Reading of UTF-8 text files, plain or compressed."""

import contextlib
import gzip
import lzma
import os
import re
import sys
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from backports import zstd  # `compression.zstd` of Python 3.14

from training.errors import UserError

# Windows of up to 2 GiB, which `zstd --long=31` and `zstd --ultra` use, instead of 128 MiB.
_ZSTD_OPTIONS: dict[int, int] = {zstd.DecompressionParameter.window_log_max: 31}
# A path that starts with /, ./ or ../, or text without blanks that contains a slash or ends in an
# extension, such as .txt, .de or .zh-CN.
_PATH = re.compile(r"\.{0,2}/.*|\S*/\S*|\S+\.[A-Za-z][A-Za-z0-9_-]{1,6}", re.ASCII)
_OPENERS: dict[str, Callable[[Path], Any]] = {
    ".gz": gzip.open,
    ".xz": lzma.open,
    ".zst": lambda path: zstd.open(path, options=_ZSTD_OPTIONS),
}
COMPRESSIONS = tuple(_OPENERS)  # suffixes of compressed files
_READ_ERRORS = (OSError, EOFError, zlib.error, lzma.LZMAError, zstd.ZstdError)
_BLOCK = 2**20  # bytes


def read_bytes(path: Path) -> bytes:
    """Read a file, decompressing it if its name ends in .gz, .xz or .zst.

    Raises:
        UserError: if the file cannot be read.
    """
    with _read_errors(path):
        return b"".join(_blocks(path))


def read_lines(path: Path) -> Iterator[list[str]]:
    """Yield the lines of a file, as `decode_lines` does, in lists of about a megabyte of text.

    Raises:
        UserError: if the file cannot be read or is not UTF-8.
    """
    first = 1
    blocks = _blocks(path)
    while True:
        with _read_errors(path, "" if first == 1 else f" after line {first - 1}"):
            block = next(blocks, b"")
        if not block:
            return
        lines = _decode(block, str(path), first)
        yield lines
        first += len(lines)


def decode_lines(content: bytes, name: str) -> list[str]:
    """Decode UTF-8 text into lines, with surrounding whitespace removed.

    Args:
        content: encoded text, optionally with a byte order mark.
        name: name of the file for error messages.

    Raises:
        UserError: if the text is not UTF-8.
    """
    return _decode(content, name, first=1)


def _blocks(path: Path) -> Iterator[bytes]:
    """Yield the content of a file in blocks of whole lines."""
    with _OPENERS.get(path.suffix, lambda path: path.open("rb"))(path) as file:
        while block := file.read(_BLOCK) + file.readline():
            yield block


def _decode(content: bytes, name: str, first: int) -> list[str]:
    """Decode whole lines of a file, of which `first` is the number of the first line."""
    try:
        text = content.decode("utf-8-sig" if first == 1 else "utf-8")
    except UnicodeDecodeError as error:
        # Not `content`, because positions are relative to the text without byte order mark.
        line = first + error.object.count(b"\n", 0, error.start)
        raise UserError(f"{name}, line {line} is not UTF-8: convert the file to UTF-8.") from error
    # Not str.splitlines, which also splits at separators that occur inside sentences.
    return [line.strip() for line in text.removesuffix("\n").split("\n")] if text else []


@contextlib.contextmanager
def _read_errors(path: Path, position: str = "") -> Iterator[None]:
    """Convert errors of reading a file into a `UserError` that names the position."""
    try:
        yield
    except _READ_ERRORS as error:
        raise UserError(f"Cannot read {path}{position} ({error}): restore it.") from error


def read_sentences(source: str, flag: str) -> list[str]:
    """Read the sentences that a flag gives: a sentence, a file, or - for standard input.

    Raises:
        UserError: if the file cannot be read or does not exist.
    """
    if source in ("-", "/dev/stdin") and sys.stdin is None:
        raise UserError(f"Cannot read {flag}={source}: standard input is closed.")
    if source == "-":
        return decode_lines(sys.stdin.buffer.read(), "standard input")
    if os.path.isdir(source):
        raise UserError(
            f"{source} is a folder: pass a file of sentences, or a sentence by {flag}=-."
        )
    if os.path.exists(source):  # also a pipe, such as /dev/stdin or <(command)
        return decode_lines(read_bytes(Path(source)), source)
    if _PATH.fullmatch(source):
        raise UserError(
            f"There is no file {source}: check the path, or pass a sentence that looks like a path "
            f"by {flag}=-."
        )
    return decode_lines(os.fsencode(source), flag) if source else [source]
