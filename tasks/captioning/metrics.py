"""Metrics of captions and of the attention weights behind them.

METEOR, which Xu et al. 2015 also report, is left out: it needs Java or word lists that cannot be
installed as a package.
"""

import itertools
import re
from collections.abc import Collection, Sequence

import numpy as np
import sacrebleu
from jaxtyping import Bool, Float, Int, Real

from tasks.captioning.data.dataset import WORD_CLASSES

References = Sequence[Sequence[str]]  # one or more for each caption
POINTING = "|".join(("chance", "generated", *WORD_CLASSES))
NAMES = re.compile(rf"bleu_([1-4]|4_brevity)|exact_match|perplexity|pointing|pointing_({POINTING})")


def bleu(captions: Sequence[str], references: References) -> dict[str, float]:
    """Compute corpus BLEU-1 to BLEU-4 of tokenized captions, in percent.

    Returns:
        `bleu_1` to `bleu_4` without brevity penalty, as in Xu et al. 2015, sec. 5.3, and
        `bleu_4_brevity`, with the penalty.
    """
    transposed = list(itertools.zip_longest(*references))
    # `force` disables sacrebleu's warning about text that looks tokenized.
    score = sacrebleu.corpus_bleu(
        captions, transposed, tokenize="none", smooth_method="none", force=True
    )
    precisions = np.asarray(score.precisions)
    with np.errstate(divide="ignore"):
        means = np.exp(np.cumsum(np.log(precisions)) / np.arange(1, 5))
    return {f"bleu_{n}": float(mean) for n, mean in enumerate(means, 1)} | {
        "bleu_4_brevity": score.score
    }


def exact_match(captions: Sequence[str], references: References) -> float:
    """Compute the fraction of captions that equal a reference."""
    matches = [caption in several for caption, several in zip(captions, references, strict=True)]
    return float(np.mean(matches))


def pointing_accuracy(
    weights: Float[np.ndarray, "B T P"],
    objects: Int[np.ndarray, "B T"],
    word_classes: Int[np.ndarray, "B T"],
    boxes: Real[np.ndarray, "B N 4"],
    *,
    grid: tuple[int, int],
    size: int,
    classes: Sequence[str],
    content: Collection[str],
) -> dict[str, float]:
    """Compute the fraction of words with the largest attention weight in the box of their object.

    Args:
        weights: attention weights at each word over the positions of the map.
        objects: index of the object that each word is about, -1 for words without an object.
        word_classes: class of each word, an index of `classes`.
        boxes: top, left, bottom and right of each object, in pixels.
        grid: rows and columns of the map.
        size: rows and columns of the image, in pixels.
        classes: names of the word classes.
        content: names of the classes of content words.

    Returns:
        `pointing`, over all content words; `pointing_CLASS` for each class; and `pointing_chance`,
        the mean fraction of positions that lie in the box of a content word's object.
    """
    example, step = np.nonzero(objects >= 0)
    box = boxes[example, objects[example, step]]
    inside = positions_in_boxes(box, grid, size)
    largest = np.argmax(weights[example, step], axis=-1)
    hits = inside[np.arange(len(example)), largest]
    found = word_classes[example, step]
    is_content = np.isin(found, [n for n, name in enumerate(classes) if name in content])
    values = {
        "pointing": float(hits[is_content].mean()),
        "pointing_chance": float(inside[is_content].mean()),
    }
    return values | {
        f"pointing_{name}": float(hits[found == n].mean())
        for n, name in enumerate(classes)
        if (found == n).any()
    }


def positions_in_boxes(
    boxes: Real[np.ndarray, "*B 4"], grid: tuple[int, int], size: int
) -> Bool[np.ndarray, "*B P"]:
    """Return whether the center of each position of a map lies within each box."""
    rows, columns = grid
    y, x = (np.mgrid[:rows, :columns].reshape(2, -1) + 0.5) * [[size / rows], [size / columns]]
    top, left, bottom, right = np.moveaxis(np.asarray(boxes)[..., None], -2, 0)
    return (top <= y) & (y <= bottom) & (left <= x) & (x <= right)
