"""Translation datasets of tensorflow-datasets, read without TensorFlow."""

import os

import numpy as np

from tasks.subsets import fixed_permutation
from tasks.translation.data.pairs import Indices, RecordPairs
from training.errors import UserError, first_line

_SPLITS = {"dev": "validation", "test": "test"}  # names of tensorflow-datasets
# If a dataset lacks a split, this part of its training data is sampled for the split and excluded
# from training.
_HELD_OUT = 0.01


def read_dataset(source: str, target: str, dataset: str, data_dir: str) -> dict[str, RecordPairs]:
    """Open a translation dataset that `python -m tasks.prepare` has written as array_record.

    Args:
        source: feature of the dataset, such as 'en'.
        target: another feature.
        dataset: name and config, such as 'wmt14_translate/de-en'.
        data_dir: directory or bucket of the prepared dataset; '' for the default of
            tensorflow-datasets.

    Raises:
        UserError: if the dataset is not prepared, is damaged, or does not have a language.
    """
    import tensorflow_datasets  # takes half a second, and no other corpus needs it

    # Not a pathlib.Path, which would turn 'gs://' into 'gs:/'.
    directory = os.path.expanduser(data_dir) or None
    command = f"python -m tasks.prepare {dataset} --data_dir={data_dir or 'DIR'}"
    try:
        builder = tensorflow_datasets.builder(dataset, data_dir=directory, try_gcs=False)
        languages = list(builder.info.features)
        available = builder.info.splits
    except Exception as error:  # not found, no access, no client for the bucket: many types
        raise UserError(
            f"{dataset} is not prepared in data.data_dir={data_dir!r}, or the directory cannot be "
            f"read ({first_line(error)}): prepare the dataset once with `{command}`."
        ) from error
    for language in (source, target):
        if language not in languages:
            raise UserError(f"{dataset} has no {language!r}: choose from {', '.join(languages)}.")

    names = {"train": "train"} | {x: name for x, name in _SPLITS.items() if name in available}
    try:
        records = {split: builder.as_data_source(split=name) for split, name in names.items()}
        indices: dict[str, Indices] = {x: range(len(data)) for x, data in records.items()}
    except Exception as error:  # prepared in another format, partly deleted: many types
        raise UserError(
            f"{dataset} in {builder.data_dir} cannot be read as array_record "
            f"({first_line(error)}): remove it and prepare it again with `{command}`."
        ) from error
    sizes = {split: available[name].num_bytes for split, name in names.items()}
    missing = [split for split in _SPLITS if split not in names]
    if missing:
        indices |= _hold_out(len(records["train"]), missing)
        names |= {split: f"{split} from train" for split in ("train", *missing)}
    return {
        split: RecordPairs(
            records.get(split, records["train"]),
            source,
            target,
            fingerprint=f"{builder.info.full_name}[{names[split]}] {source}-{target}, "
            f"{sizes.get(split, sizes['train'])} bytes",
            indices=indices[split],
        )
        for split in ("train", *_SPLITS)
    }


def _hold_out(count: int, splits: list[str]) -> dict[str, Indices]:
    """Sample disjoint splits from `count` training examples; return the indices of all splits."""
    size = int(count * _HELD_OUT)
    *held_out, train = np.split(fixed_permutation(count), size * np.arange(1, len(splits) + 1))
    parts = {"train": train} | dict(zip(splits, held_out, strict=True))
    return {split: np.sort(part) for split, part in parts.items()}
