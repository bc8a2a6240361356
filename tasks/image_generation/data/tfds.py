"""Image datasets of tensorflow-datasets."""

import contextlib
import functools
import os
from collections.abc import Callable, Mapping
from typing import Any

from tasks.files import digest
from tasks.images import crop_and_resize, image_from_array
from tasks.subsets import fixed_permutation
from training.errors import UserError, first_line


class TfdsImages:
    """Images of a tensorflow-datasets split, prepared as array_record.

    Args:
        open_split: opens the split; called at the first access, because the classes are known
            before the dataset is prepared.
        classes: names of the classes.
        resolution: R.
        channels: C.
    """

    def __init__(
        self,
        open_split: Callable[[], Any],
        classes: tuple[str, ...],
        resolution: int,
        channels: int,
    ):
        self._open_split, self.classes = open_split, classes
        self._resolution, self._channels = resolution, channels

    @functools.cached_property
    def _records(self):
        return self._open_split()

    @functools.cached_property
    def _order(self):
        return fixed_permutation(len(self))

    @property
    def form(self) -> str:
        """Storage of the images."""
        return "tensorflow-datasets"

    def fingerprint(self) -> str:
        """Return a digest of the name, version and size of the prepared dataset."""
        info, split = self._records.dataset_info, self._records.split
        return digest([f"{info.full_name}[{split}] {info.splits[split].num_bytes}".encode()])

    def __len__(self) -> int:
        return len(self._records)

    def check(self) -> None:
        """Open the dataset and read an image."""
        if len(self):
            self[0]

    def __getitem__(self, i: int):
        record = self._records[int(self._order[i])]
        image = image_from_array(record["image"], self._channels)
        return crop_and_resize(image, self._resolution), int(record.get("label", 0))


def tfds(
    resolution: int, channels: int, *, dataset: str, data_dir: str, test_split: str
) -> Mapping[str, TfdsImages]:
    """Dataset of tensorflow-datasets with a feature `image`, prepared as array_record.

    Args:
        resolution: R.
        channels: C.
        dataset: name of the dataset, such as 'cifar10'.
        data_dir: directory or bucket of the prepared dataset; '' for the default of
            tensorflow-datasets.
        test_split: split of the dataset that becomes `test`, such as 'test' or 'validation'.
    """
    import tensorflow_datasets  # takes half a second, and no other source needs it

    directory = os.path.expanduser(data_dir) or None
    command = f"python -m tasks.prepare {dataset} --data_dir={data_dir or 'DIR'}"

    @contextlib.contextmanager
    def convert_errors():
        try:
            yield
        except Exception as error:  # not found, no access, another format: many types
            raise UserError(
                f"{dataset} is not prepared in data.data_dir={data_dir!r}, or the directory cannot "
                f"be read ({first_line(error)}): prepare the dataset once with `{command}`."
            ) from error

    with convert_errors():
        builder = tensorflow_datasets.builder(dataset, data_dir=directory, try_gcs=False)
        features = builder.info.features
        classes = tuple(features["label"].names) if "label" in features else ("",)
    if "image" not in features:
        raise UserError(f"{dataset} has no feature 'image': choose a dataset of images.")
    open_split = convert_errors()(builder.as_data_source)
    return {
        name: TfdsImages(functools.partial(open_split, split=split), classes, resolution, channels)
        for name, split in {"train": "train", "test": test_split}.items()
    }
