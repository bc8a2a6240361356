"""Datasets of captioned images by name."""

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from tasks.captioning.data import karpathy, scenes
from tasks.captioning.data.dataset import CaptionedImages
from training.registry import lookup

DATASETS: dict[str, Callable[..., Mapping[str, CaptionedImages]]] = {
    "scenes": scenes.load,
    "flickr8k": partial(karpathy.load, "flickr8k"),
    "flickr30k": partial(karpathy.load, "flickr30k"),
    "coco": partial(karpathy.load, "coco"),
}


def load(source: str, **options: Any) -> Mapping[str, CaptionedImages]:
    """Load images with captions by split.

    Args:
        source: name of the dataset.
        options: the other values of `config.data`, passed to the function of the dataset.

    Raises:
        UserError: if the dataset or an option is unknown, or the data are faulty.
    """
    read = lookup(DATASETS, source, key="data.source", section="data", options=options)
    return read(**options)
