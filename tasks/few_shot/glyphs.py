"""Letters of many scripts as pictures, drawn from the fonts that matplotlib brings along.

They stand in for Omniglot where nothing is to be downloaded: a class is a letter, and each of its
turns by a right angle is a class of its own, as there. Its examples are the fonts that have it
(sans, serif and mono; light, bold and slanted); how they are distorted beyond that is left to the
task. Training, dev and test have scripts of their own.
"""

import unicodedata
from collections.abc import Iterator, Mapping
from functools import lru_cache
from pathlib import Path

import matplotlib
import numpy as np
from jaxtyping import UInt8
from matplotlib.ft2font import FT2Font

FONTS = [
    f"DejaVu{family}.ttf"
    for family in (
        "Sans",
        "Serif",
        "SansMono",
        "Sans-Bold",
        "Serif-Bold",
        "Sans-Oblique",
        "Serif-Italic",
        "SansMono-Bold",
    )
]
SCRIPTS = {
    "test": ("ARMENIAN", "GEORGIAN", "HEBREW", "NKO", "OGHAM", "TIFINAGH", "LAO"),
    "dev": ("GREEK",),
    "train": ("LATIN", "CYRILLIC", "ARABIC", "CANADIAN"),
}
LAST = 0x2DFF  # of the code points looked at, and so of the scripts above
ALIKE = 0.9  # cosine from which two pictures are the same letter
TURNS = 4


@lru_cache(maxsize=2)
def glyphs(size: int) -> Mapping[str, list[UInt8[np.ndarray, "_ P P"]]]:
    """Classes by split: of each its V examples, ink being 255.

    Of classes that look alike, as O and its turns, or the same letter in two scripts, only the
    first is kept, of whatever split: training has none that test or dev has.

    Args:
        size: of a picture's sides, in pixels.
    """
    turned = [
        (split, np.ascontiguousarray(np.rot90(examples, turn, axes=(1, 2))))
        for split, scripts in SCRIPTS.items()
        for examples in (_examples(letter, size) for letter in _letters(scripts))
        if len(examples) > 1
        for turn in range(TURNS)
    ]
    flat = np.array([examples[0].reshape(-1) for _, examples in turned], np.float32)
    flat /= np.linalg.norm(flat, axis=1, keepdims=True)
    alike, kept = flat @ flat.T >= ALIKE, np.zeros(len(flat), bool)
    for n, like in enumerate(alike):
        kept[n] = not (like & kept).any()
    classes: dict[str, list[np.ndarray]] = {split: [] for split in SCRIPTS}
    for (split, examples), stays in zip(turned, kept, strict=True):
        if stays:
            classes[split].append(examples)
    return classes


def _letters(scripts: tuple[str, ...]) -> Iterator[str]:
    """Letters of some scripts, without those that are others with marks on."""
    for letter in map(chr, range(0x41, LAST)):
        name = unicodedata.name(letter, "")
        known = name.split(" ")[0] in scripts and unicodedata.category(letter).startswith("L")
        if known and " WITH " not in name and not unicodedata.decomposition(letter):
            yield letter


def _examples(letter: str, size: int) -> UInt8[np.ndarray, "V P P"]:
    """A picture of it by each font that has it, in the middle."""
    pictures = []
    for font in _fonts(size):
        if not font.get_char_index(ord(letter)):
            continue
        font.set_text(letter)
        font.draw_glyphs_to_bitmap(antialiased=True)
        ink = np.array(font.get_image(), np.uint8)
        ink = ink[ink.any(1)][:, ink.any(0)]
        height, width = ink.shape
        if not ink.any() or max(height, width) > size:
            continue
        picture = np.zeros((size, size), np.uint8)
        top, left = (size - height) // 2, (size - width) // 2
        picture[top : top + height, left : left + width] = ink
        pictures.append(picture)
    return np.array(pictures, np.uint8).reshape(-1, size, size)


@lru_cache(maxsize=2)
def _fonts(size: int) -> list[FT2Font]:
    folder = Path(matplotlib.get_data_path(), "fonts", "ttf")
    fonts = [FT2Font(str(folder / name)) for name in FONTS]
    for font in fonts:
        font.set_size(0.8 * size, 72)  # points of 1/72 inch are pixels
    return fonts
