"""Images that are held in memory."""

from typing import NamedTuple

import numpy as np
from jaxtyping import Int, UInt8

from tasks.files import digest


class InMemoryImages(NamedTuple):
    """Images that are held in memory."""

    images: UInt8[np.ndarray, "N R R C"]
    labels: Int[np.ndarray, " N"]
    classes: tuple[str, ...]

    @property
    def form(self) -> str:
        """Storage of the images."""
        return "arrays"

    def fingerprint(self) -> str:
        """Return a digest of the images and labels."""
        return digest([self.images.tobytes(), self.labels.tobytes()])

    def __len__(self) -> int:
        return len(self.images)

    def check(self) -> None:
        """Do nothing, because the images are in memory."""

    def __getitem__(self, i):
        return self.images[i], int(self.labels[i])
