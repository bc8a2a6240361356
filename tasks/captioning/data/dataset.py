"""Images with several captions each: the interface of all captioning datasets."""

import itertools
from collections.abc import Sequence
from typing import Any, NamedTuple, Protocol, runtime_checkable

import numpy as np
from jaxtyping import Int8, Int32, Integer

from tasks.captioning.data.image_files import ImageFiles
from tasks.files import digest

WORD_CLASSES = ("other", "digit", "color", "size")  # of the words in `Grounding.word_classes`
CONTENT_CLASSES = ("digit", "color")  # words that the pixels of their object determine


@runtime_checkable
class Inputs(Protocol):
    """Inputs of the model, indexed by an array of image numbers."""

    def __len__(self) -> int: ...

    def __getitem__(self, indices: Integer[np.ndarray, " B"], /) -> np.ndarray: ...


class Grounding(NamedTuple):
    """Positions of the objects that the words of the captions refer to.

    Attributes:
        boxes: top, left, bottom and right of each object in pixels; bottom and right are exclusive.
            Images with fewer than O objects have empty boxes (zeros).
        word_objects: index of the object that each word of each caption is about, or -1.
        word_classes: indices into `WORD_CLASSES`.
    """

    boxes: Int32[np.ndarray, "N O 4"]
    word_objects: Int8[np.ndarray, "N K T"]
    word_classes: Int8[np.ndarray, "N K T"]


class CaptionedImages(NamedTuple):
    """Images of a split and their captions.

    Attributes:
        inputs: inputs of the model: images, uint8 `[N, R, R, 3]`, or precomputed annotations,
            `[N, P, C]`.
        captions: captions of each image; words are separated by spaces.
        pixels: images for figures: item i is uint8 `[R, R, 3]`.
        grounding: boxes of the objects, or `None` if the dataset has none.
    """

    inputs: Inputs
    captions: Sequence[Sequence[str]]
    pixels: Any
    grounding: Grounding | None = None

    def __len__(self) -> int:
        return len(self.captions)

    @property
    def summary(self) -> str:
        """Number of images, and a digest of the captions and the names and sizes of the files."""
        files = self.pixels.names_and_sizes() if isinstance(self.pixels, ImageFiles) else []
        captions = ("\n".join([*several, ""]).encode() for several in self.captions)
        return f"{len(self):,} images (digest {digest(itertools.chain(files, captions))})"
