"""Parallel text in a directory: `train.en`, `train.de`, ... (or `.gz`), one sentence per line."""

from pathlib import Path

from tasks.text import decode_lines, read_bytes
from tasks.translation.data.pairs import TextPairs
from training.errors import UserError

_DEV_STEMS = ("dev", "val", "valid")


def read_directory(directory: Path, source: str, target: str) -> dict[str, TextPairs]:
    """Read every split of a directory that has a file in both languages.

    Split `train` is `train.*`; `dev` is `dev.*`, `val.*` or `valid.*`; `test` is `test.*`, or else
    the alphabetically first `test*.*` (such as `test_2016_flickr`). Any other stem is a split with
    that name.

    Raises:
        UserError: if the directory or a file is missing, the files of a split have different
            numbers of lines, a line is empty, or a file is not UTF-8.
    """
    if not directory.is_dir():
        raise UserError(
            f"There is no directory {directory}: set data.dir to one with train.{source}, "
            f"train.{target} and the same for dev and test."
        )
    return {
        split: read_pairs(directory, stem, source, target)
        for split, stem in _split_stems(directory, source, target).items()
    }


def read_pairs(directory: Path, stem: str, source: str, target: str) -> TextPairs:
    """Read `stem.source` and `stem.target`, whose lines are translations of each other."""
    source_path, target_path = (
        find_file(directory, stem, language) or directory / f"{stem}.{language}"
        for language in (source, target)
    )
    sources, targets = _read_sentences(source_path), _read_sentences(target_path)
    if len(sources) != len(targets):
        raise UserError(
            f"{source_path} has {len(sources)} lines but {target_path} has {len(targets)}: "
            "line i of one must be the translation of line i of the other."
        )
    return TextPairs(sources, targets)


def find_file(directory: Path, stem: str, language: str) -> Path | None:
    """Return the path of `stem.language` or `stem.language.gz`, or None if neither exists."""
    for path in (directory / f"{stem}.{language}", directory / f"{stem}.{language}.gz"):
        if path.is_file():
            return path
    return None


def _split_stems(directory: Path, source: str, target: str) -> dict[str, str]:
    """Map split names to file stems; raises `UserError` if train, dev or test is missing."""
    names = {path.name.removesuffix(".gz") for path in directory.iterdir() if path.is_file()}
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
    return splits | {stem: stem for stem in complete if stem not in {*splits.values(), *_DEV_STEMS}}


def _read_sentences(path: Path) -> list[str]:
    """Read the lines of a file, none of which may be empty."""
    lines = decode_lines(read_bytes(path), str(path))
    if not lines:
        raise UserError(f"{path} is empty: add sentences or remove it.")
    if "" in lines:
        raise UserError(
            f"{path}, line {lines.index('') + 1} is empty: remove the line in both languages."
        )
    return lines
