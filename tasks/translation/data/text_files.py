"""Parallel text files with one sentence per line, plain or compressed (.gz, .xz or .zst).

The files of a corpus are `train.en`, `train.de`, ... in a directory, or those of a glob per split.
"""

import glob
import os
import re
from collections.abc import Mapping
from pathlib import Path

from tasks.files import is_hidden, list_files
from tasks.text import COMPRESSIONS
from tasks.translation.data.file_pairs import FilePairs, Shard
from tasks.translation.data.pairs import Pairs, Splits
from training.errors import UserError

_DEV_STEMS = ("dev", "val", "valid")


def read_directory(directory: Path, source: str, target: str) -> Splits:
    """Read the splits of a directory.

    Split `train` is `train.*`; `dev` is `dev.*`, `val.*` or `valid.*`; `test` is `test.*`, or else
    the alphabetically first `test*.*` (such as `test_2016_flickr`). Any other `test*.*` with a file
    in both languages is a split with that name. Other files of the languages are ignored.

    Raises:
        UserError: if the directory or a file is missing, or the content of another split than
            train is faulty.
    """
    if not os.path.isdir(directory):  # also for names that are not valid
        raise UserError(
            f"There is no directory {directory}: set data.dir to one with train.{source}, "
            f"train.{target} and the same for dev and test."
        )
    stems, ignored_files = _split_stems(directory, source, target)
    splits = {
        split: open_split(directory, stem, source, target, split) for split, stem in stems.items()
    }
    return Splits(splits, ignored_files)


def read_globs(source: str, target: str, patterns: Mapping[str, str]) -> Splits:
    """Read the splits of a corpus of many files.

    Args:
        source: language, a dot-separated part of the name of every source file.
        target: language in its place in the name of the target file.
        patterns: glob of the source files of each split, such as 'europarl/*.en'; `**` matches any
            directories. The files are read in the order of their paths.

    Raises:
        UserError: if no file matches, a file has no language or no translation, or the content of
            another split than train is faulty.
    """
    return Splits(
        {
            split: _open(_find_shards(split, pattern, source, target), split)
            for split, pattern in patterns.items()
        }
    )


def find_file(directory: Path, stem: str, language: str) -> Path | None:
    """Return the path of `stem.language`, plain or compressed, or None if there is none."""
    return _find_compressed(directory / f"{stem}.{language}")


def open_split(directory: Path, stem: str, source: str, target: str, split: str) -> Pairs:
    """Open `stem.source` and `stem.target`, whose lines are translations of each other.

    Training pairs are read from the files on every access; other splits are kept in memory, because
    every evaluation needs them.

    Args:
        directory: directory of the files.
        stem: name of the files without the language.
        source: language, the suffix of the source file.
        target: suffix of the target file.
        split: name of the split. Lines of `train` may be empty: such pairs are left out later.

    Raises:
        UserError: if the content of another split than train is faulty.
    """
    paths = [
        find_file(directory, stem, language) or directory / f"{stem}.{language}"
        for language in (source, target)
    ]
    return _open([(paths[0], paths[1])], split)


def _open(shards: list[Shard], split: str) -> Pairs:
    pairs = FilePairs(shards, allow_empty=split == "train")
    return pairs if split == "train" else pairs.in_memory()


def _find_compressed(path: Path) -> Path | None:
    """Return the path of a file or of a compressed version of it, or None if there is none."""
    paths = (path.with_name(path.name + suffix) for suffix in ("", *COMPRESSIONS))
    return next((path for path in paths if os.path.isfile(path)), None)


def _without_compression(name: str) -> str:
    """Remove the suffix of a compression from a file name."""
    suffix = Path(name).suffix
    return name.removesuffix(suffix) if suffix in COMPRESSIONS else name


def _find_shards(split: str, pattern: str, source: str, target: str) -> list[Shard]:
    """Return the files that match a pattern, each with its translation."""
    option = f"data.{split}={pattern!r}"
    try:
        matches = glob.glob(os.path.expanduser(pattern), recursive=True)
    except (OSError, ValueError, re.error) as error:
        raise UserError(f"{option} is not a valid glob ({error}): correct it.") from error
    paths = sorted(Path(x) for x in matches if os.path.isfile(x) and not is_hidden(Path(x).name))
    if not paths:
        raise UserError(
            f"No file matches {option}: set it to a glob of the files in '{source}', such as "
            f"'corpus/*.{source}'."
        )
    shards: dict[Path, Shard] = {}
    for path in paths:
        parts = _without_compression(path.name).split(".")
        plain = path.with_name(".".join(parts))
        if source not in parts:
            raise UserError(
                f"{path} matches {option}, but no dot-separated part of its name is '{source}': "
                "narrow the glob."
            )
        if plain in shards:
            raise UserError(
                f"{shards[plain][0]} and {path} match {option}: remove one, or narrow the glob."
            )
        last = len(parts) - 1 - parts[::-1].index(source)
        wanted = path.with_name(".".join((*parts[:last], target, *parts[last + 1 :])))
        translation = _find_compressed(wanted)
        if translation is None:
            raise UserError(
                f"{path} matches {option}, but there is no {wanted} (or .gz, .xz or .zst of it): "
                "add it, or narrow the glob."
            )
        shards[plain] = path, translation
    return list(shards.values())


def _split_stems(directory: Path, source: str, target: str) -> tuple[dict[str, str], list[str]]:
    """Map split names to file stems; also return the names of the files that no split has.

    Raises:
        UserError: if train, dev or test is missing.
    """
    names = {_without_compression(path.name) for path in list_files(directory)}
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
        raise UserError(
            f"{directory} has no {' and no '.join(missing)} (or .gz, .xz or .zst of it): add it."
        )

    splits = {
        "train": first_complete(["train"], "train"),
        "dev": first_complete(list(_DEV_STEMS), "dev"),
        "test": first_complete(["test", *(x for x in partial if x.startswith("test"))], "test"),
    }
    splits |= {x: x for x in complete if x.startswith("test") and x not in splits.values()}
    languages = ((stem, x) for x in (source, target) for stem in stems[x])
    ignored_files = sorted(f"{stem}.{x}" for stem, x in languages if stem not in splits.values())
    return splits, ignored_files
