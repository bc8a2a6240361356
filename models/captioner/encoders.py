"""Encoders that map an image to annotations, one vector for each position of a feature map."""

import itertools
import math
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float, PRNGKeyArray

from attention import affine
from models.convolutions import Conv
from models.layers import LayerNorm, glorot, param


class DownBlock(nnx.Module):
    """Residual block with pre-activation (He et al. 2016) that halves the map.

    Layer normalization over the channels of a position takes the place of batch normalization, so
    that examples are independent.

    Args:
        inputs: number of input channels.
        outputs: number of output channels.
        key: PRNG key of the initial weights.
    """

    def __init__(self, inputs: int, outputs: int, *, key: PRNGKeyArray):
        keys = jax.random.split(key, 3)
        self.norms = nnx.List([LayerNorm(inputs), LayerNorm(outputs)])
        self.first_conv = Conv(inputs, outputs, key=keys[0])
        self.second_conv = Conv(outputs, outputs, key=keys[1])
        self.shortcut = Conv(inputs, outputs, 1, key=keys[2])

    def __call__(self, x: Float[Array, "B Y X C"]) -> Float[Array, "B Y//2 X//2 D"]:
        h = self.first_conv(jax.nn.relu(self.norms[0](x)))
        return self.second_conv.pooled(jax.nn.relu(self.norms[1](h))) + self.shortcut.pooled(x)


class ResidualEncoder(nnx.Module):
    """Small residual network, trained with the decoder.

    The image is divided into square patches, whose linear projections are the first map. The
    receptive field of an annotation is limited, so that the model must attend near an object to
    identify it: with patches of 4 x 4 pixels and two widths, the receptive field has 40 x 40 pixels
    around the 8 x 8 pixels of the position. A learned position embedding is added to the
    annotations, because a limited receptive field does not determine the position.

    Deviation from Xu et al. 2015, who use features of a pretrained VGG network (`Features`).

    Args:
        resolution: rows and columns R of an image.
        channels: number of image channels, C.
        patch: rows and columns of a patch.
        widths: number of channels of the first map, and of the map after each halving; the last
            number is D.
        dtype: dtype of the activations.
        key: PRNG key of the initial weights.

    Raises:
        ValueError: if the resolution is not a multiple of the side of a position in pixels.
    """

    def __init__(
        self,
        *,
        resolution: int,
        channels: int,
        patch: int,
        widths: Sequence[int],
        dtype: jnp.dtype,
        key: PRNGKeyArray,
    ):
        pixels = patch * 2 ** (len(widths) - 1)
        if not widths or resolution % pixels:
            raise ValueError(
                f"encoder.resolution={resolution} must be a multiple of encoder.patch times 2 for "
                f"each of the encoder.widths but the first, {pixels}"
            )
        keys = jax.random.split(key, len(widths) + 2)
        inputs = patch * patch * channels
        self.patch = patch
        self.stem = param(glorot(keys[0], (inputs, widths[0]), inputs, widths[0]), (None, "mlp"))
        self.stem_bias = param(jnp.zeros(widths[0]), ("mlp",))
        pairs = enumerate(itertools.pairwise(widths), 1)
        self.blocks = nnx.List([DownBlock(*pair, key=keys[n]) for n, pair in pairs])
        self.last_conv = Conv(widths[-1], widths[-1], key=keys[-2])
        self.norms = nnx.List([LayerNorm(widths[-1]), LayerNorm(widths[-1])])
        side = resolution // pixels
        position = 0.1 * jax.random.normal(keys[-1], (side * side, widths[-1]))
        self.position = param(position, (None, "embed"))
        self.grid: tuple[int, int] = (side, side)
        self.width, self.dtype = widths[-1], dtype

    def __call__(self, images: Float[Array, "B R R C"]) -> Float[Array, "B P D"]:
        """Compute the annotations of images in [-1, 1]."""
        flat = patches(images.astype(self.dtype), self.patch)
        x = affine(flat, self.stem[...], self.stem_bias[...])
        for block in self.blocks:
            x = block(x)
        x = x + self.last_conv(jax.nn.relu(self.norms[0](x)))
        annotations = self.norms[1](x).reshape(len(x), -1, self.width)
        return annotations + self.position[...].astype(self.dtype)


def patches(images: Float[Array, "B R R C"], size: int) -> Float[Array, "B Y X F"]:
    """Divide images into patches of `size` x `size` pixels, and flatten each patch."""
    batch, rows, columns, channels = images.shape
    y, x = rows // size, columns // size
    divided = images.reshape(batch, y, size, x, size, channels).swapaxes(2, 3)
    return divided.reshape(batch, y, x, size * size * channels)


class Features(nnx.Module):
    """Feature map that was computed in advance by a fixed network, such as VGG (`models.vgg`).

    Args:
        grid: rows Y and columns X of the map; their product is P.
        width: number of channels, D.
        dtype: dtype of the activations.
    """

    def __init__(self, *, grid: tuple[int, int], width: int, dtype: jnp.dtype):
        rows, columns = grid
        self.grid: tuple[int, int] = (rows, columns)
        self.width, self.dtype = width, dtype

    def __call__(self, features: Float[Array, "B *P D"]) -> Float[Array, "B _ D"]:
        """Return the annotations of features `[B, P, D]` or `[B, Y, X, D]`.

        Raises:
            ValueError: if the features have another number of positions or channels.
        """
        rows, columns = self.grid
        batch, *positions, width = features.shape
        if math.prod(positions) != rows * columns or width != self.width:
            raise ValueError(
                f"encoder.grid={self.grid} and encoder.width={self.width} do not match the "
                f"features of an image, which have the shape {features.shape[1:]}"
            )
        return features.reshape(batch, -1, width).astype(self.dtype)


def make_encoder(
    *, kind: str, key: PRNGKeyArray, dtype: jnp.dtype, **options: Any
) -> ResidualEncoder | Features:
    """Create the encoder that a config selects.

    Raises:
        ValueError: if the kind is unknown.
    """
    if kind == "residual":
        return ResidualEncoder(key=key, dtype=dtype, **options)
    if kind == "features":
        return Features(dtype=dtype, **options)
    raise ValueError(f"encoder.kind must be residual or features, not {kind!r}")
