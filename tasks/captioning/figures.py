"""Attention maps of captions, and figures: the image once per word with the weights over it."""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float, UInt8
from matplotlib.figure import Figure

from tasks.attention_maps import AttentionMap, Patches, Tokens
from tasks.plotting import literal_text
from tasks.vocabulary import EOS, SPECIAL

COLUMNS = 9  # panels of a row


def caption_maps(
    images: Sequence[UInt8[np.ndarray, "_ _ _"]],
    captions: Sequence[str],
    weights: Float[np.ndarray, "B T P"],
    grid: tuple[int, int],
) -> list[AttentionMap]:
    """Return the attention map of each captioned image.

    Args:
        images: images of any size.
        captions: caption of each image.
        weights: weights at the words of the captions and the end, over the positions of the grid.
        grid: rows and columns of the map that the decoder attends to.
    """
    maps = []
    for n, (image, caption, values) in enumerate(zip(images, captions, weights, strict=True)):
        words = [*caption.split(), SPECIAL[EOS]]
        queries, keys = Tokens("caption", words), Patches("image", image, *grid)
        example = f"{n + 1}: {caption}"
        maps.append(AttentionMap(example, "words", values[None, None, : len(words)], queries, keys))
    return maps


def attention_over_words(
    images: Sequence[UInt8[np.ndarray, "_ _ 3"]],
    captions: Sequence[Sequence[str]],
    weights: Sequence[Float[np.ndarray, "_ Y X"]],
    title: str,
) -> Figure:
    """Plot each image without and then, for every word of its caption, with attention weights.

    Each map is scaled to its largest weight (after Xu et al. 2015, fig. 2 and 3).

    Args:
        images: images of any size.
        captions: words of each caption.
        weights: weights of each caption's T words over the positions of the map.
        title: title of the figure.
    """
    lines = [-(-(len(words) + 1) // COLUMNS) for words in captions]
    figure = Figure(figsize=(1.2 * COLUMNS, 1.45 * sum(lines) + 0.4), layout="constrained")
    ([title], *captions), style = literal_text([title], *captions)
    figure.suptitle(title, fontsize=9, **style)
    parts = figure.subfigures(len(images), 1, squeeze=False, height_ratios=lines)[:, 0]
    for part, image, words, maps in zip(parts, images, captions, weights, strict=True):
        panels = part.subplots(-(-(len(words) + 1) // COLUMNS), COLUMNS, squeeze=False).flat
        height, width = image.shape[:2]
        for axes in panels:
            axes.set_axis_off()
        panels = part.axes
        for axes in panels[: len(words) + 1]:
            axes.imshow(image)
        for axes, word, heat in zip(panels[1:], words, maps, strict=False):
            axes.set_title(word, fontsize=8, **style)
            axes.imshow(
                heat,
                cmap="gray",
                vmin=0,
                vmax=heat.max(),
                alpha=0.65,
                extent=(-0.5, width - 0.5, height - 0.5, -0.5),
                interpolation="bilinear",
            )
    return figure
