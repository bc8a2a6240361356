"""Where sentence pairs come from, by name: `load(corpus='numbers', source='en', ...)`."""

import os
from collections.abc import Callable, Mapping
from pathlib import Path

from tasks.translation.data import cmudict as cmudict_words
from tasks.translation.data import multi30k as multi30k_files
from tasks.translation.data.numbers import numbers
from tasks.translation.data.pairs import Pairs, RecordPairs
from tasks.translation.data.text_files import read_folder
from training.choices import choose
from training.errors import UserError, first_line

DEFAULT_MULTI30K_DIR = "~/.cache/attention_atlas/multi30k"
# Our names of splits, and those of tensorflow-datasets. Where it has no such split, a hundredth
# of its training data is one, and is not trained on.
_TFDS_SPLITS = {"dev": ("validation", "train[:1%]"), "test": ("test", "train[1%:2%]")}


def load(corpus: str, source: str, target: str, **options) -> Mapping[str, Pairs]:
    """Opens a corpus; a config's `data` block is passed as `load(**config.data)`.

    Args:
        corpus: a key of `CORPORA`.
        source: language to translate from.
        target: language to translate to.
        **options: the keyword arguments of the corpus's function, all of them.

    Returns:
        Split name (`train`, `dev`, `test` and whatever else the corpus has) to its pairs.

    Raises:
        UserError: an unknown corpus or option, a missing option, or data at fault.
    """
    chosen = choose(CORPORA, corpus, key="data.corpus", section="data", options=options)
    found = chosen(source, target, **options)
    for split, pairs in found.items():
        if not len(pairs):
            raise UserError(
                f"data.corpus '{corpus}' has no pair for {split}: add some to its data."
            )
    return found


def text_files(source: str, target: str, *, dir: str) -> Mapping[str, Pairs]:
    """Any parallel text: the folder `dir` of `train.en`, `train.de`, ... (see `read_folder`)."""
    return read_folder(Path(dir).expanduser(), source, target)


def multi30k(source: str, target: str, *, dir: str) -> Mapping[str, Pairs]:
    """Multi30k from `dir`, downloaded to there if it is not; '' is a cache in the home folder."""
    return multi30k_files.read(Path(dir or DEFAULT_MULTI30K_DIR).expanduser(), source, target)


def cmudict(source: str, target: str, *, dir: str) -> Mapping[str, Pairs]:
    """The CMU dictionary that is installed, or if not '' the split whose files `dir` holds."""
    folder = Path(dir).expanduser() if dir else None
    return cmudict_words.read(source, target, folder)


def tfds(source: str, target: str, *, dataset: str, data_dir: str) -> Mapping[str, Pairs]:
    """A translation dataset of tensorflow-datasets, prepared as array_record; no TensorFlow.

    Args:
        source: a feature of the dataset, as 'en'.
        target: another.
        dataset: name with config, as 'wmt14_translate/de-en'.
        data_dir: folder or bucket it was prepared in; '' is tensorflow-datasets' own default.
    """
    # Here and not above: it takes half a second, and only this corpus needs it.
    import tensorflow_datasets

    # Not a pathlib.Path, which would make 'gs:/' of 'gs://'.
    where = os.path.expanduser(data_dir) or None
    command = f"python -m tasks.prepare {dataset} --data_dir={data_dir or 'DIR'}"
    try:
        builder = tensorflow_datasets.builder(dataset, data_dir=where, try_gcs=False)
        languages = list(builder.info.features)
        available = builder.info.splits
    except Exception as error:  # not found, no access, no client for the bucket: many types
        raise UserError(
            f"{dataset} is not prepared in data.data_dir={data_dir!r}, or that cannot be reached "
            f"({first_line(error)}): prepare it once by `{command}`"
        ) from error
    for language in (source, target):
        if language not in languages:
            raise UserError(f"{dataset} has no {language!r}: choose from {', '.join(languages)}")

    parts = {
        ours: name if name in available else part for ours, (name, part) in _TFDS_SPLITS.items()
    }
    whole = set(parts.values()) <= set(available)
    try:
        return {
            ours: RecordPairs(
                builder.as_data_source(split=split),
                source,
                target,
                fingerprint=f"{builder.info.full_name}[{split}] {source}-{target}",
            )
            for ours, split in ({"train": "train" if whole else "train[2%:]"} | parts).items()
        }
    except Exception as error:  # prepared in another format, partly deleted
        raise UserError(
            f"{dataset} in {builder.data_dir} cannot be read as array_record "
            f"({first_line(error)}): remove it and prepare it again by `{command}`"
        ) from error


CORPORA: dict[str, Callable[..., Mapping[str, Pairs]]] = {
    "numbers": numbers,
    "text_files": text_files,
    "multi30k": multi30k,
    "cmudict": cmudict,
    "tfds": tfds,
}
