"""Random augmentation of images, on the device."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax.scipy.ndimage import map_coordinates
from jaxtyping import Array, Float, PRNGKeyArray, UInt8


class Augmentation(NamedTuple):
    """Maximum extent of each random transformation.

    Attributes:
        rotate: angle in degrees, in both directions.
        scale: relative change of the size.
        shift: offset in pixels, in all directions.
        flip: whether half of the images are flipped horizontally.
    """

    rotate: float
    scale: float
    shift: float
    flip: bool


def preprocess(
    images: UInt8[Array, "B R R C"], augmentation: Augmentation, key: PRNGKeyArray
) -> Float[Array, "B R R C"]:
    """Scale pixels from 0 .. 255 to [-1, 1] and augment the images."""
    values = images.astype(jnp.float32) / 127.5 - 1.0
    keys = jax.random.split(key)
    if augmentation.flip:
        flipped = jax.random.bernoulli(keys[0], shape=(len(values), 1, 1, 1))
        values = jnp.where(flipped, values[:, :, ::-1], values)
    if augmentation.rotate or augmentation.scale or augmentation.shift:
        extents = jax.random.uniform(keys[1], (len(values), 4), minval=-1.0, maxval=1.0)
        values = jax.vmap(_transform, (0, None, 0))(values, augmentation, extents)
    return values


def _transform(image, augmentation, extents):
    """Rotate, scale and shift one image, in units of the maximum extents.

    Bilinear interpolation; pixels from beyond the border have the value of the nearest pixel.
    """
    rows, columns, _ = image.shape
    center = jnp.array([(rows - 1) / 2, (columns - 1) / 2])[:, None, None]
    angle = jnp.deg2rad(augmentation.rotate * extents[0])
    rotation = jnp.array([[jnp.cos(angle), -jnp.sin(angle)], [jnp.sin(angle), jnp.cos(angle)]])
    grid = jnp.stack(jnp.meshgrid(jnp.arange(rows), jnp.arange(columns), indexing="ij"))
    shift = augmentation.shift * extents[2:, None, None]
    source = jnp.tensordot(rotation, grid - center - shift, 1)
    source = source / (1 + augmentation.scale * extents[1])
    sample = lambda channel: map_coordinates(channel, source + center, order=1, mode="nearest")
    return jax.vmap(sample, -1, -1)(image)
