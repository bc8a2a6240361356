"""Small random changes of images, made on the device from the step's key."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax.scipy.ndimage import map_coordinates
from jaxtyping import Array, Float, PRNGKeyArray, UInt8


class Augment(NamedTuple):
    """How far images are changed at most; what lies beyond an image is as its corner.

    Attributes:
        rotate: degrees either way.
        scale: share by which it grows or shrinks.
        shift: pixels up, down, left and right.
        flip: whether every other one is mirrored.
    """

    rotate: float
    scale: float
    shift: float
    flip: bool


def prepare(
    images: UInt8[Array, "B R R C"], augment: Augment, key: PRNGKeyArray
) -> Float[Array, "B R R C"]:
    """From bytes to [-1, 1], changed."""
    values = images.astype(jnp.float32) / 127.5 - 1.0
    keys = jax.random.split(key)
    if augment.flip:
        mirrored = jax.random.bernoulli(keys[0], shape=(len(values), 1, 1, 1))
        values = jnp.where(mirrored, values[:, :, ::-1], values)
    if augment.rotate or augment.scale or augment.shift:
        values = jax.vmap(_move, (0, None, 0))(
            values, augment, jax.random.uniform(keys[1], (len(values), 4), minval=-1.0, maxval=1.0)
        )
    return values


def _move(image, augment, amounts):
    """Turns, scales and shifts one image about its middle, by shares of the most."""
    rows, columns, _ = image.shape
    middle = jnp.array([(rows - 1) / 2, (columns - 1) / 2])[:, None, None]
    angle = jnp.deg2rad(augment.rotate * amounts[0])
    turn = jnp.array([[jnp.cos(angle), -jnp.sin(angle)], [jnp.sin(angle), jnp.cos(angle)]])
    grid = jnp.stack(jnp.meshgrid(jnp.arange(rows), jnp.arange(columns), indexing="ij"))
    shift = augment.shift * amounts[2:, None, None]
    source = jnp.tensordot(turn, grid - middle - shift, 1) / (1 + augment.scale * amounts[1])
    sample = lambda channel: map_coordinates(channel, source + middle, order=1, mode="nearest")
    return jax.vmap(sample, -1, -1)(image)
