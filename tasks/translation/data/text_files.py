"""Parallel text in a folder: `train.en`, `train.de`, ... (or `.gz`), one sentence a line."""

import gzip
import zlib
from pathlib import Path

from tasks.translation.data.pairs import TextPairs
from training.errors import UserError

_DEV_STEMS = ("dev", "val", "valid")


def read_folder(folder: Path, source: str, target: str) -> dict[str, TextPairs]:
    """Reads every split that a folder has in both languages.

    `train.*` is split `train`; `dev.*`, `val.*` or `valid.*` is `dev`; `test.*`, or if there is
    none the alphabetically first `test*.*` (`test_2016_flickr`), is `test`. Any further stem is a
    split of its own name.

    Raises:
        UserError: a folder, file or side that is missing, sides of unequal length, an empty line,
            text that is not UTF-8.
    """
    if not folder.is_dir():
        raise UserError(
            f"there is no folder {folder}: set data.dir to one with train.{source}, "
            f"train.{target} and the like for dev and test"
        )
    return {
        split: read_pair(folder, stem, source, target)
        for split, stem in _split_stems(folder, source, target).items()
    }


def read_pair(folder: Path, stem: str, source: str, target: str) -> TextPairs:
    """Reads `stem.source` and `stem.target`, line by line the translation of each other."""
    paths = [find(folder, stem, side) or folder / f"{stem}.{side}" for side in (source, target)]
    sides = [_read_lines(path) for path in paths]
    if len(sides[0]) != len(sides[1]):
        raise UserError(
            f"{paths[0]} has {len(sides[0])} lines but {paths[1]} has {len(sides[1])}: "
            "line i of one must be the translation of line i of the other"
        )
    return TextPairs(*sides)


def _split_stems(folder: Path, source: str, target: str) -> dict[str, str]:
    """Split name to file stem; train, dev and test are there or the error names what is not."""
    names = {path.name.removesuffix(".gz") for path in folder.iterdir() if path.is_file()}
    stems = {
        side: {name.removesuffix(f".{side}") for name in names if name.endswith(f".{side}")}
        for side in (source, target)
    }
    both = sorted(stems[source] & stems[target])
    either = sorted(stems[source] | stems[target])

    def pick(wanted: list[str], anything: str) -> str:
        for stem in wanted:
            if stem in both:
                return stem
        half = [stem for stem in wanted if stem in either] or [anything]
        missing = [f"{half[0]}.{side}" for side in (source, target) if half[0] not in stems[side]]
        raise UserError(f"{folder} has no {' and no '.join(missing)} (nor .gz of it): add it")

    splits = {
        "train": pick(["train"], "train"),
        "dev": pick(list(_DEV_STEMS), "dev"),
        "test": pick(["test", *(stem for stem in either if stem.startswith("test"))], "test"),
    }
    return splits | {stem: stem for stem in both if stem not in {*splits.values(), *_DEV_STEMS}}


def find(folder: Path, stem: str, language: str) -> Path | None:
    """The file of a stem and a language, plain or compressed."""
    for path in (folder / f"{stem}.{language}", folder / f"{stem}.{language}.gz"):
        if path.is_file():
            return path
    return None


def read_bytes(path: Path) -> bytes:
    """Content of a file, decompressed if its name ends in .gz."""
    try:
        content = path.read_bytes()
        return gzip.decompress(content) if path.suffix == ".gz" else content
    except (OSError, EOFError, zlib.error) as error:
        raise UserError(f"cannot read {path} ({error}): restore it") from error


def lines_of(content: bytes, name: str) -> list[str]:
    """The lines of a UTF-8 text that is called `name`, without the spaces around them."""
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise UserError(f"{name}, line {line}: not UTF-8, convert the file to it") from error
    # Not str.splitlines, which also splits at separators that occur inside sentences.
    return [line.strip() for line in text.removesuffix("\n").split("\n")] if text else []


def _read_lines(path: Path) -> list[str]:
    lines = lines_of(read_bytes(path), str(path))
    if not lines:
        raise UserError(f"{path} is empty: fill it or remove it")
    if "" in lines:
        raise UserError(
            f"{path}, line {lines.index('') + 1}: empty, remove the pair from both sides"
        )
    return lines
