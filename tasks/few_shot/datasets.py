"""Images by class, for each split."""

import os
from collections.abc import Mapping

import numpy as np
from jaxtyping import UInt8

from tasks.few_shot.glyphs import ROTATIONS, glyphs
from tasks.images import image_from_array
from training.errors import UserError

Classes = list[UInt8[np.ndarray, "_ P P"]]  # the images of each class; ink is 255
DEV_CHARACTERS = 100  # characters of Omniglot's training set that are held out for dev


def load(*, source: str, image_size: int, data_dir: str) -> Mapping[str, Classes]:
    """Load the classes of each split.

    Args:
        source: 'glyphs', rendered from fonts, or 'omniglot' from tensorflow-datasets.
        image_size: P, height and width of an image.
        data_dir: directory of the prepared Omniglot; '' for the default of tensorflow-datasets.

    Raises:
        UserError: if the source does not exist or is not prepared.
    """
    if source == "glyphs":
        return glyphs(image_size)
    if source == "omniglot":
        return omniglot(image_size, data_dir)
    raise UserError(f"Unknown data.source '{source}': choose glyphs or omniglot.")


def omniglot(size: int, data_dir: str) -> Mapping[str, Classes]:
    """Load Omniglot, with each character rotated by 0, 90, 180 and 270 degrees as four classes.

    The test split is Omniglot's evaluation set, whose alphabets do not occur in the training set
    (Lake et al. 2015). The papers instead split the 1,623 characters at random. Characters are
    ordered by alphabet; dev has the last characters of the training set instead of a random sample,
    so that its alphabets, except for one, do not occur in the training split either.
    """
    import tensorflow_datasets  # slow to import, and not needed for other sources

    try:
        builder = tensorflow_datasets.builder(
            "omniglot", data_dir=os.path.expanduser(data_dir) or None, try_gcs=False
        )
        records = {split: builder.as_data_source(split=split) for split in ("train", "test")}
    except Exception as error:  # not found, prepared in another format: many types
        raise UserError(
            f"Omniglot is not prepared in data.data_dir={data_dir!r}: prepare it once with "
            f"`python -m tasks.prepare omniglot --data_dir={data_dir or 'DIR'}`."
        ) from error
    classes: dict[str, Classes] = {}
    for split, data_source in records.items():
        characters: dict[int, list[np.ndarray]] = {}
        for record in data_source:
            image = image_from_array(record["image"], channels=1).resize((size, size))
            characters.setdefault(int(record["label"]), []).append(255 - np.asarray(image))
        classes[split] = [
            np.ascontiguousarray(np.rot90(characters[label], rotation, axes=(1, 2)))
            for label in sorted(characters)
            for rotation in range(ROTATIONS)
        ]
    train = classes["train"]
    held_out = ROTATIONS * min(DEV_CHARACTERS, len(train) // 8)
    return classes | {"train": train[:-held_out], "dev": train[-held_out:]}
