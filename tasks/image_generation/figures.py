"""Pictures of images."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from jaxtyping import Float, UInt8
from matplotlib.figure import Figure
from PIL import Image

from training.files import replacing


def grid(images: Float[np.ndarray, "B R R C"], rows: int) -> UInt8[np.ndarray, "Y X C"]:
    """Images in [-1, 1] as one: row after row, with a pixel between."""
    count, side, _, channels = images.shape
    columns = -(-count // rows)
    canvas = np.full((rows, columns, side + 1, side + 1, channels), 255, np.uint8)
    pixels = np.uint8(np.clip(np.rint((images + 1) * 127.5), 0, 255))
    canvas.reshape(rows * columns, side + 1, side + 1, channels)[:count, :-1, :-1] = pixels
    woven = canvas.transpose(0, 2, 1, 3, 4).reshape(
        rows * (side + 1), columns * (side + 1), channels
    )
    return woven[:-1, :-1]


def save(pixels: UInt8[np.ndarray, "Y X C"], path: Path) -> None:
    """As a PNG file, a pixel of the image being one of the file."""
    image = Image.fromarray(pixels[..., 0] if pixels.shape[-1] == 1 else pixels)
    with replacing(path) as file:
        image.save(file, format="PNG")


def read(path: Path) -> UInt8[np.ndarray, "Y X C"]:
    """A PNG file as `save` writes it."""
    with Image.open(path) as image:
        pixels = np.asarray(image)
    return pixels[..., None] if pixels.ndim == 2 else pixels


def show(axes, pixels: UInt8[np.ndarray, "Y X C"], **options) -> None:
    """Without axes."""
    grey = pixels.shape[-1] == 1
    axes.imshow(pixels[..., 0] if grey else pixels, cmap="gray", **options)
    axes.set_axis_off()


def page(titled: Mapping[str, UInt8[np.ndarray, "Y X C"]], columns: int, inches: float) -> Figure:
    """Several pictures, each below its title.

    Args:
        titled: by title.
        columns: how many are side by side.
        inches: width of each.
    """
    rows = -(-len(titled) // columns)
    height = max(x.shape[0] / x.shape[1] for x in titled.values()) * inches + 0.3
    figure = Figure(figsize=(columns * inches, rows * height), layout="constrained")
    places = list(figure.subplots(rows, columns, squeeze=False).flat)
    for axes in places:
        axes.set_axis_off()
    for axes, (title, pixels) in zip(places, titled.items(), strict=False):
        show(axes, pixels, interpolation="nearest")
        axes.set_title(title, fontsize=8)
    return figure


def attended(
    images: Float[np.ndarray, "B R R C"],
    attention: Float[np.ndarray, "B P S"],
    queries: Sequence[tuple[float, float]],
) -> Figure:
    """Where points of an image attend: the paper's Figure 1 and 5.

    Args:
        images: in [-1, 1], a row of the figure each.
        attention: of each position of a square map to each of a square, perhaps smaller, one.
        queries: points (down, right) in shares of the image.
    """
    side, seen = (round(n**0.5) for n in attention.shape[1:])
    resolution = images.shape[1]
    size = (1.3 * (1 + len(queries)), 1.35 * len(images) + 0.3)
    figure = Figure(figsize=size, layout="constrained")
    places = figure.subplots(len(images), 1 + len(queries), squeeze=False)
    extent = (-0.5, resolution - 0.5, resolution - 0.5, -0.5)
    for row, image, weights in zip(places, images, attention, strict=True):
        pixels = grid(image[None], 1)
        show(row[0], pixels)
        for n, (axes, (down, right)) in enumerate(zip(row[1:], queries, strict=True)):
            position = int(down * side) * side + int(right * side)
            show(axes, pixels)
            heat = weights[position].reshape(seen, seen)
            axes.imshow(heat, cmap="hot", alpha=0.65, extent=extent, interpolation="bilinear")
            for place in (row[0], axes):
                place.plot(right * resolution, down * resolution, "o", color=f"C{n}", ms=4)
    return figure
