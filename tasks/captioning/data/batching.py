"""Batches of images and captions."""

import functools
import sys
from collections.abc import Iterator, Sequence

import numpy as np
from jaxtyping import Int, Int32

from tasks.captioning.data.dataset import Inputs
from training.errors import UserError


def check_lengths(lengths: Sequence[int]) -> None:
    """Check that lengths ascend.

    Raises:
        UserError: if they do not, or there are none.
    """
    if not lengths or list(lengths) != sorted(set(lengths)):
        raise UserError(
            f"batching.lengths={tuple(lengths)} must be different lengths in ascending order."
        )


class CaptionBatches:
    """Infinite sequence of batches of captions of about equal length, with their images.

    `batches[i]` depends on the seed and i only. An epoch has each caption once, without the last
    incomplete batch of each length (Xu et al. 2015, sec. 4.3, sample the length of each batch).

    Args:
        inputs: see `CaptionedImages.inputs`.
        captions: tokens of the captions of each image, with EOS, padded with 0.
        size: number of captions in a batch.
        lengths: padded lengths in ascending order; a caption is padded to the smallest one that
            holds it. Longer captions are left out.
        seed: random seed of the order.

    Raises:
        UserError: if no length has a whole batch.
    """

    def __init__(
        self,
        inputs: Inputs,
        captions: Int32[np.ndarray, "N K T"],
        *,
        size: int,
        lengths: Sequence[int],
        seed: int,
    ):
        self.inputs, self.captions, self.size, self.seed = inputs, captions, size, seed
        counts = (captions != 0).sum(-1)
        self.groups: dict[int, Int[np.ndarray, "M 2"]] = {}  # image and caption numbers by length
        shortest = 0
        for length in lengths:
            pairs = np.argwhere((counts > shortest) & (counts <= length))
            shortest = length
            if len(pairs) >= size:
                self.groups[length] = pairs
        if not self.groups:
            most = np.count_nonzero((counts > 0) & (counts <= max(lengths)))
            raise UserError(
                f"No length in batching.lengths={tuple(lengths)} has batching.size={size} training "
                f"captions (all together have {most}): choose longer lengths or a smaller size."
            )
        self.per_epoch = sum(len(pairs) // size for pairs in self.groups.values())
        self._plan = functools.lru_cache(maxsize=2)(self._plan_epoch)

    def __len__(self) -> int:
        return sys.maxsize

    def __getitem__(self, i: int) -> dict[str, np.ndarray]:
        epoch, n = divmod(i, self.per_epoch)
        length, pairs = self._plan(epoch)[n]
        image, caption = pairs.T
        return {
            "image": self.inputs[image],
            "caption": self.captions[image, caption, :length],
        }

    def _plan_epoch(self, epoch: int) -> list[tuple[int, Int[np.ndarray, "B 2"]]]:
        rng = np.random.default_rng((self.seed, epoch))
        batches = []
        for length, pairs in self.groups.items():
            shuffled = rng.permutation(pairs)[: len(pairs) // self.size * self.size]
            batches += [(length, batch) for batch in shuffled.reshape(-1, self.size, 2)]
        return [batches[n] for n in rng.permutation(len(batches))]


def evaluation_batches(count: int, size: int) -> Iterator[Int[np.ndarray, " B"]]:
    """Yield the numbers 0 .. count - 1 in batches of equal size; the last one repeats a number."""
    for start in range(0, count, size):
        yield np.minimum(np.arange(start, start + size), count - 1)
