"""Translation datasets of tensorflow-datasets, read without TensorFlow."""

import os

from tasks.translation.data.pairs import RecordPairs
from training.errors import UserError, first_line

# Split names of tensorflow-datasets. If a dataset lacks a split, 1% of its training data is used
# for the split and excluded from training.
_SPLITS = {"dev": ("validation", "train[:1%]"), "test": ("test", "train[1%:2%]")}


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

    held_out = {
        split: name if name in available else fraction
        for split, (name, fraction) in _SPLITS.items()
    }
    has_all_splits = set(held_out.values()) <= set(available)
    splits = {"train": "train" if has_all_splits else "train[2%:]"} | held_out
    try:
        return {
            name: RecordPairs(
                builder.as_data_source(split=split),
                source,
                target,
                fingerprint=f"{builder.info.full_name}[{split}] {source}-{target}, "
                f"{available[split].num_bytes} bytes",
            )
            for name, split in splits.items()
        }
    except Exception as error:  # prepared in another format, partly deleted: many types
        raise UserError(
            f"{dataset} in {builder.data_dir} cannot be read as array_record "
            f"({first_line(error)}): remove it and prepare it again with `{command}`."
        ) from error
