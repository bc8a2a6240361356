"""Figures of images and their attention weights."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from jaxtyping import Float, UInt8
from matplotlib.figure import Figure
from PIL import Image

from tasks.attention_maps import AttentionMap, Patches
from training.files import atomic_write, suppress_read_only

MAX_WEIGHTS = 1_000_000  # limits the size of the page of the attention maps


def tile(images: Float[np.ndarray, "B R R C"], rows: int) -> UInt8[np.ndarray, "Y X C"]:
    """Arrange images in [-1, 1] in a grid, row by row, with one white pixel between them."""
    count, side, _, channels = images.shape
    columns = -(-count // rows)
    canvas = np.full((rows, columns, side + 1, side + 1, channels), 255, np.uint8)
    pixels = np.uint8(np.clip(np.rint((images + 1) * 127.5), 0, 255))
    canvas.reshape(rows * columns, side + 1, side + 1, channels)[:count, :-1, :-1] = pixels
    grid = canvas.transpose(0, 2, 1, 3, 4).reshape(
        rows * (side + 1), columns * (side + 1), channels
    )
    return grid[:-1, :-1]


def save_png(pixels: UInt8[np.ndarray, "Y X C"], path: Path) -> None:
    """Write pixels to a PNG file of the same size, unless its directory is read-only."""
    image = Image.fromarray(pixels[..., 0] if pixels.shape[-1] == 1 else pixels)
    with suppress_read_only(), atomic_write(path) as file:
        image.save(file, format="PNG")


def read_png(path: Path) -> UInt8[np.ndarray, "Y X C"]:
    """Read a PNG file that `save_png` has written."""
    with Image.open(path) as image:
        pixels = np.asarray(image)
    return pixels[..., None] if pixels.ndim == 2 else pixels


def image_figure(
    images: Mapping[str, UInt8[np.ndarray, "Y X C"]], columns: int, width: float
) -> Figure:
    """Plot images in a grid, each with its title.

    Args:
        images: pixels by title.
        columns: number of images side by side.
        width: width of each image in inches.
    """
    rows = -(-len(images) // columns)
    height = max(x.shape[0] / x.shape[1] for x in images.values()) * width + 0.3
    figure = Figure(figsize=(columns * width, rows * height), layout="constrained")
    panels = list(figure.subplots(rows, columns, squeeze=False).flat)
    for axes in panels:
        axes.set_axis_off()
    for axes, (title, pixels) in zip(panels, images.items(), strict=False):
        _show(axes, pixels, interpolation="nearest")
        axes.set_title(title, fontsize=8)
    return figure


def attention_figure(
    images: Float[np.ndarray, "B R R C"],
    attention: Float[np.ndarray, "B P S"],
    queries: Sequence[tuple[float, float]],
) -> Figure:
    """Plot the attention weights of query positions, as in the paper's Figures 1 and 5.

    Args:
        images: in [-1, 1], one per row of the figure.
        attention: weights of square maps of P query and S key positions.
        queries: points (down, right) as fractions of the image size.
    """
    query_size, key_size = (round(n**0.5) for n in attention.shape[1:])
    resolution = images.shape[1]
    figsize = (1.3 * (1 + len(queries)), 1.35 * len(images) + 0.3)
    figure = Figure(figsize=figsize, layout="constrained")
    panels = figure.subplots(len(images), 1 + len(queries), squeeze=False)
    extent = (-0.5, resolution - 0.5, resolution - 0.5, -0.5)
    for row, image, weights in zip(panels, images, attention, strict=True):
        pixels = tile(image[None], 1)
        _show(row[0], pixels)
        for n, (axes, (down, right)) in enumerate(zip(row[1:], queries, strict=True)):
            position = int(down * query_size) * query_size + int(right * query_size)
            _show(axes, pixels)
            heat = weights[position].reshape(key_size, key_size)
            axes.imshow(heat, cmap="hot", alpha=0.65, extent=extent, interpolation="bilinear")
            for panel in (row[0], axes):
                panel.plot(right * resolution, down * resolution, "o", color=f"C{n}", ms=4)
    return figure


def image_maps(
    images: Float[np.ndarray, "B R R C"],
    attention: Float[np.ndarray, "B P S"],
    names: Sequence[str],
) -> list[AttentionMap]:
    """Return the attention map of each image, fewer than all if the maps are large.

    Args:
        images: in [-1, 1].
        attention: weights of square maps of P query and S key positions.
        names: classes of the images; empty if there are no classes.
    """
    query_size, key_size = (round(n**0.5) for n in attention.shape[1:])
    count = max(1, MAX_WEIGHTS // attention[0].size)
    maps = []
    for n, (image, weights) in enumerate(zip(images[:count], attention, strict=False)):
        pixels = tile(image[None], 1)
        title = f"image {n + 1}" + (f", class {names[n]}" if names else "")
        queries = Patches("image", pixels, query_size, query_size)
        keys = Patches("image", pixels, key_size, key_size)
        maps.append(AttentionMap(title, "self-attention", weights[None, None], queries, keys))
    return maps


def _show(axes, pixels, **options):
    grayscale = pixels.shape[-1] == 1
    axes.imshow(pixels[..., 0] if grayscale else pixels, cmap="gray", **options)
    axes.set_axis_off()
