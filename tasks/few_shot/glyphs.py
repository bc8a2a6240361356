"""Letters of many scripts, rendered with the fonts that matplotlib contains.

A substitute for Omniglot that needs no download. As in the papers, each rotation of a letter by a
multiple of 90 degrees is a separate class. The images of a class are renderings in different fonts
(sans, serif and mono; regular, bold and oblique). Training, dev and test have different scripts.
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
    f"DejaVu{font}.ttf"
    for font in (
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
CODE_POINTS = range(0x41, 0x2DFF)  # contains the letters of these scripts
MAX_SIMILARITY = 0.9  # classes with a larger cosine similarity are duplicates
ROTATIONS = 4


@lru_cache(maxsize=2)
def glyphs(size: int) -> Mapping[str, list[UInt8[np.ndarray, "_ P P 1"]]]:
    """Render the images of each class, by split; ink is 255.

    Only the first of several similar classes is kept, such as rotations of O or the same letter in
    two scripts. Test and dev classes come first, so no training class is similar to one of them.

    Args:
        size: P, height and width of an image.
    """
    classes = [
        (split, np.ascontiguousarray(np.rot90(images, rotation, axes=(1, 2))))
        for split, scripts in SCRIPTS.items()
        for images in (_render(letter, size) for letter in _letters(scripts))
        if len(images) > 1
        for rotation in range(ROTATIONS)
    ]
    flat = np.array([images[0].reshape(-1) for _, images in classes], np.float32)
    flat /= np.linalg.norm(flat, axis=1, keepdims=True)
    is_similar, is_kept = flat @ flat.T >= MAX_SIMILARITY, np.zeros(len(flat), bool)
    for n, similar in enumerate(is_similar):
        is_kept[n] = not (similar & is_kept).any()
    kept: dict[str, list[np.ndarray]] = {split: [] for split in SCRIPTS}
    for (split, images), keep in zip(classes, is_kept, strict=True):
        if keep:
            kept[split].append(images[..., None])
    return kept


def _letters(scripts: tuple[str, ...]) -> Iterator[str]:
    """Yield the letters of the scripts, except those that add a diacritic to another letter."""
    for letter in map(chr, CODE_POINTS):
        name = unicodedata.name(letter, "")
        in_scripts = name.split(" ")[0] in scripts and unicodedata.category(letter).startswith("L")
        if in_scripts and " WITH " not in name and not unicodedata.decomposition(letter):
            yield letter


def _render(letter: str, size: int) -> UInt8[np.ndarray, "V P P"]:
    """Render a letter, centered, in each font that contains it."""
    images = []
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
        image = np.zeros((size, size), np.uint8)
        top, left = (size - height) // 2, (size - width) // 2
        image[top : top + height, left : left + width] = ink
        images.append(image)
    return np.array(images, np.uint8).reshape(-1, size, size)


@lru_cache(maxsize=2)
def _fonts(size: int) -> list[FT2Font]:
    directory = Path(matplotlib.get_data_path(), "fonts", "ttf")
    fonts = [FT2Font(str(directory / name)) for name in FONTS]
    for font in fonts:
        font.set_size(0.8 * size, 72)  # at 72 dpi, a point is a pixel
    return fonts
