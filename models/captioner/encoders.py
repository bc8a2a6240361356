"""Encoders that map an image to annotations, one vector for each position of a feature map."""

import math
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float, PRNGKeyArray

from models.convolutions import Conv
from models.layers import LayerNorm, param


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

    The convolutions of a position see a part of the image only, and they cannot tell where it is,
    except at the borders. Therefore a learned position embedding is added to the annotations.

    Deviation from Xu et al. 2015, who use features of a pretrained VGG network (`Features`).

    Args:
        resolution: rows and columns R of an image.
        channels: number of image channels, C.
        widths: number of channels after each halving of the map; the last one is D.
        dtype: dtype of the activations.
        key: PRNG key of the initial weights.

    Raises:
        ValueError: if the resolution is not a multiple of 2^len(widths).
    """

    def __init__(
        self,
        *,
        resolution: int,
        channels: int,
        widths: Sequence[int],
        dtype: jnp.dtype,
        key: PRNGKeyArray,
    ):
        if not widths or resolution % 2 ** len(widths):
            raise ValueError(
                f"encoder.resolution={resolution} must be a multiple of 2 to the number of "
                f"encoder.widths, {2 ** len(widths)}"
            )
        keys = jax.random.split(key, len(widths) + 1)
        self.stem = Conv(channels, widths[0], key=keys[0])
        self.blocks = nnx.List(
            [
                DownBlock(inputs, outputs, key=key)
                for inputs, outputs, key in zip(widths, widths[1:], keys[1:], strict=False)
            ]
        )
        self.norm = LayerNorm(widths[-1])
        side = resolution // 2 ** len(widths)
        position = 0.1 * jax.random.normal(keys[-1], (side * side, widths[-1]))
        self.position = param(position, (None, "embed"))
        self.grid: tuple[int, int] = (side, side)
        self.width, self.dtype = widths[-1], dtype

    def __call__(self, images: Float[Array, "B R R C"]) -> Float[Array, "B P D"]:
        """Compute the annotations of images in [-1, 1]."""
        x = self.stem.pooled(images.astype(self.dtype))
        for block in self.blocks:
            x = block(x)
        annotations = self.norm(x).reshape(len(x), -1, self.width)
        return annotations + self.position[...].astype(self.dtype)


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
