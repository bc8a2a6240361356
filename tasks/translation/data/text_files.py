"""Parallel text in a directory: `train.en`, `train.de`, ... (or `.gz`), one sentence per line."""

import os
from pathlib import Path

from tasks.files import list_files
from tasks.text import decode_lines, read_bytes
from tasks.translation.data.pairs import Splits, TextPairs
from training.errors import UserError

_DEV_STEMS = ("dev", "val", "valid")


def read_directory(directory: Path, source: str, target: str) -> Splits:
    """Read the splits of a directory.

    Split `train` is `train.*`; `dev` is `dev.*`, `val.*` or `valid.*`; `test` is `test.*`, or else
    the alphabetically first `test*.*` (such as `test_2016_flickr`). Any other `test*.*` with a file
    in both languages is a split with that name. Other files of the languages are passed over.

    Raises:
        UserError: if the directory or a file is missing, the files of a split have different
            numbers of lines, a line of another split than train is empty, or a file is not UTF-8.
    """
    if not os.path.isdir(directory):  # also for names that are not valid
        raise UserError(
            f"There is no directory {directory}: set data.dir to one with train.{source}, "
            f"train.{target} and the same for dev and test."
        )
    stems, passed_over = _split_stems(directory, source, target)
    splits = {
        split: read_pairs(directory, stem, source, target, allow_empty=split == "train")
        for split, stem in stems.items()
    }
    return Splits(splits, passed_over)


def read_pairs(
    directory: Path, stem: str, source: str, target: str, *, allow_empty: bool
) -> TextPairs:
    """Read `stem.source` and `stem.target`, whose lines are translations of each other.

    Args:
        directory: directory of the files.
        stem: name of the files without the language.
        source: language, the suffix of the source file.
        target: suffix of the target file.
        allow_empty: whether lines may be empty, as in training, which leaves such pairs out.
    """
    source_path, target_path = (
        find_file(directory, stem, language) or directory / f"{stem}.{language}"
        for language in (source, target)
    )
    sources, targets = (_read_sentences(path, allow_empty) for path in (source_path, target_path))
    if len(sources) != len(targets):
        raise UserError(
            f"{source_path} has {len(sources)} lines but {target_path} has {len(targets)}: "
            "line i of one must be the translation of line i of the other."
        )
    return TextPairs(sources, targets)


def find_file(directory: Path, stem: str, language: str) -> Path | None:
    """Return the path of `stem.language` or `stem.language.gz`, or None if neither exists."""
    for path in (directory / f"{stem}.{language}", directory / f"{stem}.{language}.gz"):
        if os.path.isfile(path):
            return path
    return None


def _split_stems(directory: Path, source: str, target: str) -> tuple[dict[str, str], list[str]]:
    """Map split names to file stems; also return the names of the files that no split has.

    Raises:
        UserError: if train, dev or test is missing.
    """
    names = {path.name.removesuffix(".gz") for path in list_files(directory)}
    stems = {
        language: {
            name.removesuffix(f".{language}") for name in names if name.endswith(f".{language}")
        }
        for language in (source, target)
    }
    complete = sorted(stems[source] & stems[target])
    partial = sorted(stems[source] | stems[target])

    def first_complete(candidates: list[str], default: str) -> str:
        for stem in candidates:
            if stem in complete:
                return stem
        stem = next((stem for stem in candidates if stem in partial), default)
        missing = [f"{stem}.{side}" for side in (source, target) if stem not in stems[side]]
        raise UserError(f"{directory} has no {' and no '.join(missing)} (or .gz of it): add it.")

    splits = {
        "train": first_complete(["train"], "train"),
        "dev": first_complete(list(_DEV_STEMS), "dev"),
        "test": first_complete(["test", *(x for x in partial if x.startswith("test"))], "test"),
    }
    splits |= {x: x for x in complete if x.startswith("test") and x not in splits.values()}
    languages = ((stem, x) for x in (source, target) for stem in stems[x])
    passed_over = sorted(f"{stem}.{x}" for stem, x in languages if stem not in splits.values())
    return splits, passed_over


def _read_sentences(path: Path, allow_empty: bool) -> list[str]:
    """Read the lines of a file, and check that none is empty unless `allow_empty`."""
    lines = decode_lines(read_bytes(path), str(path))
    if not lines:
        raise UserError(f"{path} is empty: add sentences or remove it.")
    if "" in lines and not allow_empty:
        raise UserError(
            f"{path}, line {lines.index('') + 1} is empty: remove the line in both languages."
        )
    return lines
