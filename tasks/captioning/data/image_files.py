"""Images that are read from files."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from jaxtyping import UInt8
from PIL import Image

from tasks.files import name_and_size
from tasks.images import read_image


@dataclasses.dataclass(frozen=True)
class ImageFiles:
    """Image files, read at each access: an index gives an image, an array of indices a batch."""

    paths: Sequence[Path]
    resolution: int

    def __len__(self) -> int:
        return len(self.paths)

    def names_and_sizes(self) -> list[bytes]:
        """Return the names and sizes of the files, as parts of a digest."""
        return [name_and_size(path, path.parent) for path in self.paths]

    def __getitem__(self, i):
        if np.ndim(i):
            return np.stack([self[int(n)] for n in i])
        return resize_and_crop(read_image(self.paths[i], channels=3), self.resolution)


def resize_and_crop(image: Image.Image, resolution: int) -> UInt8[np.ndarray, "R R 3"]:
    """Resize the shorter side to 8/7 R and crop the central R x R pixels.

    With R = 224 as for torchvision's VGG-19: 256 pixels, antialiased bilinear interpolation. The
    authors' code of Xu et al. 2015 differs by its bicubic interpolation.
    """
    shorter = round(resolution * 8 / 7)
    width, height = (length * shorter // min(image.size) for length in image.size)
    left, top = ((length - resolution) // 2 for length in (width, height))
    resized = image.resize((width, height), Image.Resampling.BILINEAR)
    return np.asarray(resized.crop((left, top, left + resolution, top + resolution)))
