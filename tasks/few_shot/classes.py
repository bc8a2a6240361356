"""Pictures by class, and episodes of few-shot classification made of them."""

import os
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Int, UInt8

from tasks.few_shot.glyphs import glyphs
from training.errors import UserError

Classes = list[UInt8[np.ndarray, "_ P P"]]  # the examples of each; ink is 255
HELD_OUT = 100  # classes of Omniglot's training set that are for dev


class Episodes(NamedTuple):
    """A batch of them: S pictures with labels and one more, whose label is the last."""

    pictures: UInt8[np.ndarray, "B T P P"]
    labels: Int[np.ndarray, "B T"]


def load(*, source: str, size: int, data_dir: str) -> Mapping[str, Classes]:
    """The classes of each split.

    Args:
        source: `glyphs`, which need nothing, or `omniglot` of tensorflow-datasets.
        size: P, of a picture's sides.
        data_dir: folder that omniglot was prepared in; '' is tensorflow-datasets' own default.

    Raises:
        UserError: if there is no such source, or it is not there.
    """
    if source == "glyphs":
        return glyphs(size)
    if source == "omniglot":
        return omniglot(size, data_dir)
    raise UserError(f"data.source '{source}' is not one of glyphs, omniglot.")


def omniglot(size: int, data_dir: str) -> Mapping[str, Classes]:
    """Omniglot's characters and their turns by right angles; test are those of its evaluation set.

    The papers split the 1,623 characters at random, 1,200 for training; here the test set has
    alphabets of its own, as Lake et al. 2015 meant it.
    """
    # Here and not above: only this source needs them.
    import tensorflow_datasets
    from PIL import Image

    try:
        builder = tensorflow_datasets.builder(
            "omniglot", data_dir=os.path.expanduser(data_dir) or None, try_gcs=False
        )
        records = {split: builder.as_data_source(split=split) for split in ("train", "test")}
    except Exception as error:  # not found, of another format: many types
        raise UserError(
            f"omniglot is not prepared in data.data_dir={data_dir!r}: prepare it once by "
            f"`python -m tasks.prepare omniglot --data_dir={data_dir or 'DIR'}`"
        ) from error
    classes: dict[str, Classes] = {}
    for split, found in records.items():
        drawings: dict[int, list[np.ndarray]] = {}
        for record in found:
            paper = Image.fromarray(record["image"]).convert("L").resize((size, size))
            drawings.setdefault(int(record["label"]), []).append(255 - np.asarray(paper))
        classes[split] = [
            np.ascontiguousarray(np.rot90(drawings[label], turn, axes=(1, 2)))
            for label in sorted(drawings)
            for turn in range(4)
        ]
    held_out = 4 * min(HELD_OUT, len(classes["train"]) // 8)
    train = classes["train"]
    return classes | {"train": train[:-held_out], "dev": train[-held_out:]}


def having(classes: Classes, shots: int) -> Classes:
    """Those that have so many examples to show, and one more to ask for."""
    return [examples for examples in classes if len(examples) > shots]


def draw(
    classes: Classes, rng: Any, *, rows: int, ways: int, shots: int, shuffled: bool
) -> Episodes:
    """Episodes of N classes with K examples each, in any order, and one more; no picture twice.

    Args:
        classes: to draw from, each at most once in an episode; those that have too few examples
            are left out.
        rng: a NumPy generator.
        rows: B.
        ways: N.
        shots: K.
        shuffled: labels are dealt out among the pictures, so that they tell nothing: a control.
    """
    pictures, labels, enough = [], [], having(classes, shots)
    for _ in range(rows):
        chosen = rng.choice(len(enough), ways, replace=False)
        order = rng.permutation(np.repeat(np.arange(ways), shots))
        asked = rng.integers(ways)
        told = [*order, asked]
        mixed = [iter(rng.permutation(enough[n])) for n in chosen]
        pictures.append([next(mixed[way]) for way in told])
        labels.append([*rng.permutation(order), asked] if shuffled else told)
    return Episodes(np.array(pictures), np.array(labels, np.int32))
