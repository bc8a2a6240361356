"""Download a dataset of tensorflow-datasets and write it in the format that training reads.

    pip install -r requirements-prepare.txt
    python -m tasks.prepare wmt14_translate/de-en --data_dir=DIR

This is the only command that needs TensorFlow, which most datasets use to extract their downloads.
DIR is a directory or a bucket; the prepared dataset is read without TensorFlow.
"""

import argparse
import importlib.util
import os
import sys

import tensorflow_datasets as tfds

from training.errors import UserError, first_line


def prepare(dataset: str, data_dir: str) -> None:
    """Download a dataset and write it as array_record.

    Raises:
        UserError: if TensorFlow is not installed, the dataset is unknown, or the download fails.
    """
    if importlib.util.find_spec("tensorflow") is None:
        raise UserError(
            "Preparing a dataset needs TensorFlow (reading it does not): "
            "`pip install -r requirements-prepare.txt`."
        )
    import tensorflow_datasets.translate  # noqa: F401  registers the WMT datasets and others

    try:
        builder = tfds.builder(
            dataset,
            data_dir=os.path.expanduser(data_dir) or None,
            file_format="array_record",
        )
        builder.download_and_prepare()
    except Exception as error:  # unknown name, no connection, full disk: many types
        reason = first_line(error)
        raise UserError(
            f"Cannot prepare {dataset} in {data_dir!r} ({reason}): check its name in the catalog "
            "of tensorflow-datasets, the connection and the free disk space."
        ) from error
    print(f"Prepared {dataset} in {builder.data_dir}.")


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tasks.prepare", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("dataset", help="name and config, such as wmt14_translate/de-en")
    parser.add_argument("--data_dir", default="", help="default: ~/tensorflow_datasets")
    arguments = parser.parse_args()
    try:
        prepare(arguments.dataset, arguments.data_dir)
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)


if __name__ == "__main__":
    main()
