"""Prepares a dataset of tensorflow-datasets once, for `corpus='tfds'` to read.

    pip install -r requirements-prepare.txt
    python -m tasks.prepare wmt14_translate/de-en --data_dir=DIR

The one command of this project that needs TensorFlow, with which most stock datasets unpack their
downloads. DIR is a folder or a bucket; what it holds afterwards is read without TensorFlow.
"""

import argparse
import importlib.util
import os
import sys

import tensorflow_datasets as tfds

from training.errors import UserError, first_line


def prepare(dataset: str, data_dir: str) -> None:
    """Downloads a dataset and writes it as array_record.

    Raises:
        UserError: TensorFlow is not installed, the dataset is unknown, or its data cannot be had.
    """
    if importlib.util.find_spec("tensorflow") is None:
        raise UserError(
            "preparing a dataset needs TensorFlow (reading it does not): "
            "`pip install -r requirements-prepare.txt`"
        )
    import tensorflow_datasets.translate  # noqa: F401  registers the WMT datasets and their kin

    try:
        builder = tfds.builder(
            dataset,
            data_dir=os.path.expanduser(data_dir) or None,
            file_format="array_record",
        )
        builder.download_and_prepare()
    except Exception as error:  # an unknown name, no connection, a full disk: many types
        reason = first_line(error)
        raise UserError(
            f"cannot prepare {dataset} in {data_dir!r} ({reason}): check its name in the catalogue "
            "of tensorflow-datasets, the connection and the space left"
        ) from error
    print(f"{dataset} is prepared in {builder.data_dir}")


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tasks.prepare", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("dataset", help="name with config, as wmt14_translate/de-en")
    parser.add_argument("--data_dir", default="", help="default: ~/tensorflow_datasets")
    arguments = parser.parse_args()
    try:
        prepare(arguments.dataset, arguments.data_dir)
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)


if __name__ == "__main__":
    main()
