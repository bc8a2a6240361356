"""Residual blocks of both networks, and the blocks at the attention position."""

from typing import Literal, get_args

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float, PRNGKeyArray

from attention.spatial import Projections, attend_map, gated_residual
from models.convolutions import BatchNorm, Conv
from models.layers import glorot, param
from models.spectral_norm import spectral_param

AttentionKind = Literal["none", "self", "residual"]
Position = Literal["first", "middle", "last"]
COARSEST = 4  # rows and columns of the coarsest map


class SelfAttention(nnx.Module):
    """Self-attention block (Zhang et al. 2019, sec. 3), with the sizes of the authors' code.

    Args:
        channels: C, a multiple of 8.
        key: PRNG key of the initial weights.
    """

    def __init__(self, channels: int, *, key: PRNGKeyArray):
        keys = jax.random.split(key, 4)
        key_width, value_width = channels // 8, channels // 2

        def projection(key, inputs, outputs):
            return spectral_param(glorot(key, (inputs, outputs), inputs, outputs), (None, None))

        self.query = projection(keys[0], channels, key_width)
        self.key = projection(keys[1], channels, key_width)
        self.value = projection(keys[2], channels, value_width)
        self.output = projection(keys[3], value_width, channels)
        self.gate = param(jnp.zeros(()), ())

    def __call__(
        self, x: Float[Array, "B Y X C"]
    ) -> tuple[Float[Array, "B Y X C"], Float[Array, "B P S"] | None]:
        """Return the map plus its gated contexts, and the attention weights."""
        weights = Projections(self.query[...], self.key[...], self.value[...], self.output[...])
        contexts, attention = attend_map(x, weights)
        return gated_residual(x, contexts, self.gate[...]), attention


class ResidualBlock(nnx.Module):
    """Residual block with as many weights as `SelfAttention`, the control of the paper's Table 1.

    Two 3 x 3 convolutions. The number of channels between them is chosen so that the weights add up
    to the 1.25 C² of the attention block.

    Args:
        channels: C.
        key: PRNG key of the initial weights.
    """

    def __init__(self, channels: int, *, key: PRNGKeyArray):
        keys, hidden = jax.random.split(key), max(1, round(1.25 * channels / 18))
        self.first_conv = Conv(channels, hidden, key=keys[0])
        self.second_conv = Conv(hidden, channels, key=keys[1])

    def __call__(self, x: Float[Array, "B Y X C"]) -> tuple[Float[Array, "B Y X C"], None]:
        """Return the map plus its residual, and no attention weights."""
        return x + self.second_conv(jax.nn.relu(self.first_conv(jax.nn.relu(x)))), None


class NoAttention(nnx.Module):
    """Identity, used where the paper's control has no attention block."""

    def __call__(self, x: Float[Array, "B Y X C"]) -> tuple[Float[Array, "B Y X C"], None]:
        """Return the map, and no attention weights."""
        return x, None


def attention_block(kind: AttentionKind, channels: int, key: PRNGKeyArray) -> nnx.Module:
    """Create the block at the attention position.

    Raises:
        ValueError: if the kind is unknown, or the number of channels is not a multiple of 8.
    """
    if kind not in get_args(AttentionKind):
        kinds = ", ".join(get_args(AttentionKind))
        raise ValueError(f"attention must be one of {kinds}, not {kind!r}")
    if kind == "none":
        return NoAttention()
    if kind == "residual":
        return ResidualBlock(channels, key=key)
    if channels % 8:
        raise ValueError(f"self-attention needs a multiple of 8 channels, not {channels}")
    return SelfAttention(channels, key=key)


class UpBlock(nnx.Module):
    """Residual block of the generator, which upsamples the map.

    Args:
        inputs: number of input channels.
        outputs: number of output channels.
        classes: number of classes, see `BatchNorm`.
        key: PRNG key of the initial weights.
    """

    def __init__(self, inputs: int, outputs: int, classes: int, *, key: PRNGKeyArray):
        keys = jax.random.split(key, 3)
        self.norms = nnx.List([BatchNorm(inputs, classes), BatchNorm(outputs, classes)])
        self.first_conv = Conv(inputs, outputs, key=keys[0])
        self.second_conv = Conv(outputs, outputs, key=keys[1])
        self.shortcut = Conv(inputs, outputs, 1, key=keys[2])

    def __call__(self, x, labels, moments):
        """Upsample the map.

        Args:
            x: `[B, Y, X, C]`.
            labels: classes `[B]`, or `None`.
            moments: moments for each of the two batch norms; `None` for the moments of the batch.

        Returns:
            The map `[B, 2 Y, 2 X, D]`, and the moments that the two batch norms used.
        """
        h, first = self.norms[0](x, labels, moments[0])
        h = self.first_conv.upsampled(jax.nn.relu(h))
        h, second = self.norms[1](h, labels, moments[1])
        return self.second_conv(jax.nn.relu(h)) + self.shortcut.upsampled(x), (first, second)


class DownBlock(nnx.Module):
    """Residual block of the discriminator, which downsamples the map unless it is the last block.

    Args:
        inputs: number of input channels.
        outputs: number of output channels.
        position: position in the network; the first block has no activation before its first
            convolution, because its input is an image.
        key: PRNG key of the initial weights.
    """

    def __init__(self, inputs: int, outputs: int, position: Position, *, key: PRNGKeyArray):
        keys = jax.random.split(key, 3)
        self.position = position
        self.first_conv = Conv(inputs, outputs, key=keys[0])
        self.second_conv = Conv(outputs, outputs, key=keys[1])
        if position != "last":
            self.shortcut = Conv(inputs, outputs, 1, key=keys[2])

    def __call__(self, x: Float[Array, "B Y X C"]) -> Float[Array, "B _ _ D"]:
        """Downsample the map; the last block keeps its size."""
        h = jax.nn.relu(self.first_conv(x if self.position == "first" else jax.nn.relu(x)))
        if self.position == "last":
            return x + self.second_conv(h)
        return self.second_conv.pooled(h) + self.shortcut.pooled(x)


def map_sizes(resolution: int) -> list[int]:
    """Return the rows of all maps, from 4 to the resolution.

    Raises:
        ValueError: if the resolution is not 4 · 2^n with n > 0.
    """
    sizes = [COARSEST]
    while sizes[-1] < resolution:
        sizes.append(2 * sizes[-1])
    if sizes[-1] != resolution or len(sizes) < 2:
        raise ValueError(f"resolution must be 8, 16, 32 and so on, not {resolution}")
    return sizes


def check_attention_resolution(resolution: int, sizes: list[int], network: str) -> None:
    """Check that a network has maps of the resolution.

    Raises:
        ValueError: if it has none.
    """
    if resolution not in sizes:
        raise ValueError(
            f"attention_resolution must be the resolution of a {network} map, one of "
            f"{', '.join(map(str, sizes))}, not {resolution}"
        )
