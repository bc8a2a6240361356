"""Random affine distortion of images, on the device."""

from functools import partial

import jax
import jax.numpy as jnp
from jax.scipy.ndimage import map_coordinates
from jaxtyping import Array, Float, PRNGKeyArray, UInt8

from models.device_batch import example_keys

# Maximum of each parameter at strength 1.
MAX_ANGLE = 0.3  # radians
MAX_SCALE = 0.2  # relative change of the height and of the width
MAX_SHEAR = 0.2  # columns per row
MAX_SHIFT = 2.0  # pixels


def random_affine(
    images: UInt8[Array, "B T P P C"], key: PRNGKeyArray, strength: float
) -> Float[Array, "B T P P C"]:
    """Rotate, scale, shear and shift each image at random, and scale pixels to [0, 1].

    Args:
        images: images of any number of channels.
        key: PRNG key.
        strength: from 0 (no distortion) to 1 (the maxima above).
    """
    images = images.astype(jnp.float32) / 255.0
    if not strength:
        return images
    count, size, channels = images.shape[0] * images.shape[1], *images.shape[-2:]
    uniform = partial(jax.random.uniform, shape=(6,), minval=-strength, maxval=strength)
    angle, shear, *rest = jax.vmap(uniform)(example_keys(key, count)).T
    angle, shear = MAX_ANGLE * angle, MAX_SHEAR * shear
    scale, shift = 1 + MAX_SCALE * jnp.stack(rest[:2]), MAX_SHIFT * jnp.stack(rest[2:])
    center = (size - 1) / 2
    centered = jnp.arange(size) - center
    rows, columns = jnp.meshgrid(centered, centered, indexing="ij")

    def transform(image, angle, shear, scale, shift):
        y, x = rows * scale[0], (columns + shear * rows) * scale[1]
        coordinates = (
            jnp.cos(angle) * y - jnp.sin(angle) * x + center + shift[0],
            jnp.sin(angle) * y + jnp.cos(angle) * x + center + shift[1],
        )
        distort = partial(map_coordinates, coordinates=coordinates, order=1)
        return jax.vmap(distort, in_axes=-1, out_axes=-1)(image)

    flat = images.reshape(count, size, size, channels)
    return jax.vmap(transform)(flat, angle, shear, scale.T, shift.T).reshape(images.shape)
