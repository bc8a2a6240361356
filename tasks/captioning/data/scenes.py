"""Scenes of handwritten digits with captions from a grammar: the embedded dataset.

A scene has two or three digits of scikit-learn (Alpaydin & Kaynak 1998) in different places, sizes
and colors on a black canvas. It has five captions, all of them functions of the scene:

    a large red seven above a small blue two          the two topmost digits
    a small blue two below a large red seven          the two bottommost digits
    a small blue two left of a large red seven        the two leftmost digits
    a large red seven right of a small blue two       the two rightmost digits
    two digits from left to right a blue two then a red seven

Training, dev and test have different digit images. Some pairs of a digit and a color occur only in
the split `test_unseen`, where every object has such a pair and digit images are those of test.
"""

import functools
from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Int, Int8, Int32, UInt8

from tasks.captioning.data.dataset import WORD_CLASSES, CaptionedImages, Grounding

CANVAS = 64  # rows and columns of a scene
MAX_OBJECTS = 3
PIXELS = {"small": 16, "large": 24}  # rows and columns of a digit
MAX_OVERLAP = 0.1  # share of the smaller box
MARGIN = 8  # smallest distance of two centers, vertically and horizontally, in pixels
COLORS = {
    "red": (230, 30, 30),
    "green": (30, 170, 40),
    "blue": (60, 90, 255),
    "yellow": (250, 220, 40),
    "purple": (190, 60, 220),
    "white": (255, 255, 255),
}
DIGITS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
# One pair per color; no digit occurs twice.
UNSEEN_PAIRS = frozenset({(1, 0), (3, 1), (4, 2), (6, 3), (7, 4), (9, 5)})  # (digit, color)
SPLITS = ("train", "dev", "test", "test_unseen")

# Templates of the captions. 'color:1' is the color of the second object in the given direction.
_FIRST, _SECOND = (f"a size:{n} color:{n} digit:{n}" for n in (0, 1))
_RELATIONS = {
    "down": f"{_FIRST} above {_SECOND}",
    "up": f"{_FIRST} below {_SECOND}",
    "right": f"{_FIRST} left of {_SECOND}",
    "left": f"{_FIRST} right of {_SECOND}",
}
_LISTS = {
    2: "two digits from left to right a color:0 digit:0 then a color:1 digit:1",
    3: "three digits from left to right a color:0 digit:0 then a color:1 digit:1 "
    "then a color:2 digit:2",
}
CAPTIONS = len(_RELATIONS) + 1  # per scene
MAX_WORDS = len(_LISTS[MAX_OBJECTS].split())
_NAMES = {
    "size": np.array([*PIXELS], object),
    "color": np.array([*COLORS], object),
    "digit": np.array(DIGITS, object),
}


class Scenes(NamedTuple):
    """Attributes of the objects of each scene; objects beyond `counts` are not visible.

    Attributes:
        counts: number of objects, 2 or 3.
        digits: 0 to 9.
        colors: indices into `COLORS`.
        sizes: indices into `PIXELS`.
        glyphs: indices of the images in `sklearn.datasets.load_digits()`.
        corners: top and left of each object in pixels.
    """

    counts: Int[np.ndarray, " N"]
    digits: Int[np.ndarray, "N O"]
    colors: Int[np.ndarray, "N O"]
    sizes: Int[np.ndarray, "N O"]
    glyphs: Int[np.ndarray, "N O"]
    corners: Int[np.ndarray, "N O 2"]

    @property
    def visible(self) -> Bool[np.ndarray, "N O"]:
        return np.arange(MAX_OBJECTS) < self.counts[:, None]

    @property
    def boxes(self) -> Int32[np.ndarray, "N O 4"]:
        """Top, left, bottom and right; zeros for objects that are not visible."""
        boxes = np.concatenate([self.corners, self.corners + _pixels(self.sizes)[..., None]], -1)
        return np.where(self.visible[..., None], boxes, 0).astype(np.int32)


def load(*, train: int, dev: int, test: int, seed: int) -> Mapping[str, CaptionedImages]:
    """Generate the splits `train`, `dev`, `test` and `test_unseen`.

    Args:
        train: number of training scenes.
        dev: number of dev scenes.
        test: number of scenes of `test`, and of `test_unseen`.
        seed: random seed of the scenes.
    """
    splits = {}
    for split, count in zip(SPLITS, (train, dev, test, test), strict=True):
        scenes = sample(split, count, seed)
        images = render(scenes)
        captions, word_objects, word_classes = describe(scenes)
        grounding = Grounding(scenes.boxes, word_objects, word_classes)
        splits[split] = CaptionedImages(images, captions, images, grounding)
    return splits


def sample(split: str, count: int, seed: int) -> Scenes:
    """Sample scenes; no two objects of a scene have the same digit and color."""
    rng = np.random.default_rng((seed, SPLITS.index(split)))
    is_unseen = split == "test_unseen"
    pairs = np.array(
        [
            (digit, color)
            for digit in range(len(DIGITS))
            for color in range(len(COLORS))
            if ((digit, color) in UNSEEN_PAIRS) == is_unseen
        ]
    )
    chosen = rng.permuted(np.tile(np.arange(len(pairs)), (count, 1)), axis=1)[:, :MAX_OBJECTS]
    digits, colors = np.moveaxis(pairs[chosen], -1, 0)
    counts = rng.integers(2, MAX_OBJECTS + 1, count)
    sizes = rng.integers(len(PIXELS), size=digits.shape)
    by_digit = glyphs_of("test" if is_unseen else split)
    numbers = np.array([len(glyphs) for glyphs in by_digit])
    starts = np.cumsum(numbers) - numbers
    offsets = (rng.random(digits.shape) * numbers[digits]).astype(int)
    glyphs = np.concatenate(by_digit)[starts[digits] + offsets]
    corners = _sample_corners(rng, counts, _pixels(sizes))
    return Scenes(counts, digits, colors, sizes, glyphs, corners)


@functools.lru_cache(maxsize=1)
def _handwriting() -> tuple[UInt8[np.ndarray, "N 8 8"], Int[np.ndarray, " N"]]:
    """Read the digit images, with pixels of 0 to 16, and their digits."""
    from sklearn.datasets import load_digits  # takes a second, and no other source needs it

    dataset = load_digits()
    return dataset.images.astype(np.uint8), dataset.target


def glyphs_of(split: str) -> list[Int[np.ndarray, " _"]]:
    """Return the indices of the split's images of each digit.

    Of five consecutive images of a digit, three are for training, one for dev and one for test.
    """
    _, targets = _handwriting()
    remainders = {"train": (0, 1, 2), "dev": (3,), "test": (4,)}[split]
    by_digit = [np.flatnonzero(targets == digit) for digit in range(len(DIGITS))]
    return [x[np.isin(np.arange(len(x)) % 5, remainders)] for x in by_digit]


def _pixels(sizes):
    """Convert indices into `PIXELS` to numbers of pixels."""
    return np.array([*PIXELS.values()])[sizes]


def _sample_corners(rng, counts, pixels):
    """Sample positions uniformly from all that `is_readable` accepts, by rejection."""
    corners = np.zeros((*pixels.shape, 2), int)
    pending = np.arange(len(counts))
    while len(pending):
        free = CANVAS - pixels[pending] + 1
        corners[pending] = rng.random((*free.shape, 2)) * free[..., None]
        pending = pending[~is_readable(counts[pending], pixels[pending], corners[pending])]
    return corners


def is_readable(
    counts: Int[np.ndarray, " N"], pixels: Int[np.ndarray, "N O"], corners: Int[np.ndarray, "N O 2"]
) -> Bool[np.ndarray, " N"]:
    """Return whether the boxes of each scene overlap little and have an order in both axes."""
    readable = np.ones(len(counts), bool)
    for a in range(MAX_OBJECTS):
        for b in range(a + 1, MAX_OBJECTS):
            starts = np.maximum(corners[:, a], corners[:, b])
            ends = np.minimum(
                corners[:, a] + pixels[:, a, None], corners[:, b] + pixels[:, b, None]
            )
            overlap = np.maximum(ends - starts, 0).prod(-1)
            centers = [corners[:, n] + pixels[:, n, None] / 2 for n in (a, b)]
            distances = np.abs(centers[0] - centers[1])
            smaller = np.minimum(pixels[:, a], pixels[:, b])
            fits = (overlap <= MAX_OVERLAP * smaller**2) & (distances >= MARGIN).all(-1)
            readable &= fits | (counts <= b)
    return readable


def render(scenes: Scenes) -> UInt8[np.ndarray, "N 64 64 3"]:
    """Render the scenes; digits are enlarged by bilinear interpolation."""
    handwriting, _ = _handwriting()
    inks = [_enlarge(handwriting / np.float32(16), size) for size in PIXELS.values()]
    palette = np.array([*COLORS.values()], np.float32)
    images, boxes = np.zeros((len(scenes.counts), CANVAS, CANVAS, 3), np.uint8), scenes.boxes
    for n, o in np.argwhere(scenes.visible):
        top, left, bottom, right = boxes[n, o]
        ink = inks[scenes.sizes[n, o]][scenes.glyphs[n, o], :, :, None]
        region = images[n, top:bottom, left:right]
        region[:] = np.rint(region * (1 - ink) + palette[scenes.colors[n, o]] * ink)
    return images


def _enlarge(images, size):
    """Resize images with pixel centers at (i + 0.5) / size of the image."""
    old = images.shape[-1]
    positions = (np.arange(size) + 0.5) * old / size - 0.5
    weights = np.stack([np.interp(positions, np.arange(old), row) for row in np.eye(old)], 1)
    return weights.astype(np.float32) @ images @ weights.T.astype(np.float32)


def describe(
    scenes: Scenes,
) -> tuple[list[tuple[str, ...]], Int8[np.ndarray, "N K T"], Int8[np.ndarray, "N K T"]]:
    """Return the five captions of each scene, and the objects and the classes of their words."""
    attributes = {"size": scenes.sizes, "color": scenes.colors, "digit": scenes.digits}
    names = {key: _NAMES[key][indices] for key, indices in attributes.items()}
    captions = np.empty((len(scenes.counts), CAPTIONS), object)
    shape = (*captions.shape, MAX_WORDS)
    word_objects, word_classes = np.full(shape, -1, np.int8), np.zeros(shape, np.int8)
    for count, k, template, order in _forms(scenes):
        scene = np.flatnonzero(scenes.counts == count)
        words = []
        for t, token in enumerate(template.split()):
            attribute, _, rank = token.partition(":")
            if rank:
                objects = order[scene, int(rank)]
                words.append(names[attribute][scene, objects])
                word_objects[scene, k, t] = objects
                word_classes[scene, k, t] = WORD_CLASSES.index(attribute)
            else:
                words.append([token] * len(scene))
        captions[scene, k] = [" ".join(x) for x in zip(*words, strict=True)]
    return [tuple(x) for x in captions], word_objects, word_classes


def _forms(scenes):
    """Yield the number of objects, the index, the template and the object order of each caption."""
    centers = np.where(
        scenes.visible[..., None], scenes.boxes.reshape(-1, MAX_OBJECTS, 2, 2).sum(2), np.inf
    )
    down, right = (centers[..., axis].argsort(1) for axis in (0, 1))
    for count, list_template in _LISTS.items():
        orders = {
            "down": down,
            "up": down[:, count - 1 :: -1],
            "right": right,
            "left": right[:, count - 1 :: -1],
        }
        for k, (direction, template) in enumerate(_RELATIONS.items()):
            yield count, k, template, orders[direction]
        yield count, CAPTIONS - 1, list_template, right
