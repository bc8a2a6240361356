"""The self-attention GAN (Zhang et al. 2019): a generator and a projection discriminator.

Both follow the authors' code. Their depth follows the resolution, 4 · 2^n: the generator has n
residual blocks that double the map, the discriminator n that halve it and one more. Blocks at the
coarse end are 2^(n-1) times as wide as at the fine end: at 128 x 128, the paper's networks.

Weights come spectrally normalised (see `models.spectral_norm`), in both networks.
"""

from typing import Literal, NamedTuple, get_args

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float, Int, PRNGKeyArray

from attention import affine
from attention.spatial import Projections, attend_map, gated
from models.convolutions import BatchNorm, Conv, Moments
from models.layers import glorot, param
from models.spectral_norm import kernel

Kind = Literal["none", "self", "residual"]
Place = Literal["first", "between", "last"]
SMALLEST = 4  # rows and columns of the coarsest map


class Generated(NamedTuple):
    """Images in [-1, 1], what each batch norm normalised by, and where each position attended."""

    images: Float[Array, "B Y X C"]
    moments: tuple[Moments, ...]
    attention: Float[Array, "B P S"] | None


class SelfAttention(nnx.Module):
    """The block of Zhang et al. 2019, sec. 3, with the sizes and the pooling of their code.

    Args:
        channels: C, a multiple of 8.
        key: makes the weights.
    """

    def __init__(self, channels: int, *, key: PRNGKeyArray):
        keys = jax.random.split(key, 4)
        narrow, half = channels // 8, channels // 2

        def matrix(key, inputs, outputs):
            return kernel(glorot(key, (inputs, outputs), inputs, outputs), (None, None))

        self.query = matrix(keys[0], channels, narrow)
        self.key = matrix(keys[1], channels, narrow)
        self.value = matrix(keys[2], channels, half)
        self.output = matrix(keys[3], half, channels)
        self.gate = param(jnp.zeros(()), ())

    def __call__(
        self, x: Float[Array, "B Y X C"]
    ) -> tuple[Float[Array, "B Y X C"], Float[Array, "B P S"] | None]:
        """The map with what was attended to added, and the attention."""
        weights = Projections(self.query[...], self.key[...], self.value[...], self.output[...])
        contexts, attention = attend_map(x, weights)
        return gated(x, contexts, self.gate[...]), attention


class ResidualBlock(nnx.Module):
    """What the paper puts in the place of attention, with as many weights, to see if these do it.

    Two convolutions of 3 x 3, between them the channels that give them the block's 1.25 C².

    Args:
        channels: C.
        key: makes the weights.
    """

    def __init__(self, channels: int, *, key: PRNGKeyArray):
        keys, between = jax.random.split(key), max(1, round(1.25 * channels / 18))
        self.first = Conv(channels, between, key=keys[0])
        self.second = Conv(between, channels, key=keys[1])

    def __call__(self, x: Float[Array, "B Y X C"]) -> tuple[Float[Array, "B Y X C"], None]:
        """The map with something added, and no attention."""
        return x + self.second(jax.nn.relu(self.first(jax.nn.relu(x)))), None


class Unchanged(nnx.Module):
    """Nothing in the place of attention."""

    def __call__(self, x: Float[Array, "B Y X C"]) -> tuple[Float[Array, "B Y X C"], None]:
        """The map, and no attention."""
        return x, None


def middle(kind: Kind, channels: int, key: PRNGKeyArray) -> nnx.Module:
    """What stands where the paper has attention.

    Raises:
        ValueError: if there is no such kind, or too few channels to attend with.
    """
    if kind not in get_args(Kind):
        raise ValueError(f"attention must be one of {', '.join(get_args(Kind))}, not {kind!r}")
    if kind == "none":
        return Unchanged()
    if kind == "residual":
        return ResidualBlock(channels, key=key)
    if channels % 8:
        raise ValueError(f"attention needs a multiple of 8 channels, and there are {channels}")
    return SelfAttention(channels, key=key)


class UpBlock(nnx.Module):
    """A residual block that doubles the map.

    Args:
        inputs: channels that come in.
        outputs: channels that go out.
        classes: as those of `BatchNorm`.
        key: makes the weights.
    """

    def __init__(self, inputs: int, outputs: int, classes: int, *, key: PRNGKeyArray):
        keys = jax.random.split(key, 3)
        self.norms = nnx.List([BatchNorm(inputs, classes), BatchNorm(outputs, classes)])
        self.first = Conv(inputs, outputs, key=keys[0])
        self.second = Conv(outputs, outputs, key=keys[1])
        self.shortcut = Conv(inputs, outputs, 1, key=keys[2])

    def __call__(self, x, labels, moments):
        """The new map and the moments of both norms; `moments` are theirs, or None for both."""
        h, first = self.norms[0](x, labels, moments[0])
        h = self.first.upsampled(jax.nn.relu(h))
        h, second = self.norms[1](h, labels, moments[1])
        return self.second(jax.nn.relu(h)) + self.shortcut.upsampled(x), (first, second)


class DownBlock(nnx.Module):
    """A residual block that halves the map, or the last, which leaves it as it is.

    Args:
        inputs: channels that come in.
        outputs: channels that go out.
        place: where it stands; the first sees an image, which is not cut at zero.
        key: makes the weights.
    """

    def __init__(
        self,
        inputs: int,
        outputs: int,
        place: Place,
        *,
        key: PRNGKeyArray,
    ):
        keys = jax.random.split(key, 3)
        self.place = place
        self.first = Conv(inputs, outputs, key=keys[0])
        self.second = Conv(outputs, outputs, key=keys[1])
        if place != "last":
            self.shortcut = Conv(inputs, outputs, 1, key=keys[2])

    def __call__(self, x: Float[Array, "B Y X C"]) -> Float[Array, "B V U D"]:
        h = jax.nn.relu(self.first(x if self.place == "first" else jax.nn.relu(x)))
        if self.place == "last":
            return x + self.second(h)
        return self.second.pooled(h) + self.shortcut.pooled(x)


class Generator(nnx.Module):
    """From noise and a class to an image.

    Args:
        resolution: rows and columns of an image, 4 · 2^n.
        channels: of an image.
        width: channels of the last block; the first has 2^(n-1) times as many.
        latent: Z, width of the noise.
        classes: N, or 0 for a generator that is not told a class.
        attention: what stands at `feature`: `none`, `self`, or the control, `residual`.
        feature: rows and columns of the map that it stands at.
        dtype: what is computed in.
        key: makes the weights.

    Raises:
        ValueError: for sizes that do not go together.
    """

    def __init__(
        self,
        *,
        resolution: int,
        channels: int,
        width: int,
        latent: int,
        classes: int,
        attention: Kind,
        feature: int,
        dtype: str,
        key: PRNGKeyArray,
    ):
        sizes = map_sizes(resolution)
        check_feature(feature, sizes[1:], "generator")
        keys = jax.random.split(key, len(sizes) + 2)
        widths = [width * resolution // size for size in sizes[1:]]
        self.dtype, self.first_width, self.attends_after = (
            jnp.dtype(dtype),
            widths[0],
            sizes.index(feature) - 1,
        )
        entry = SMALLEST * SMALLEST * widths[0]
        self.entry = kernel(glorot(keys[0], (latent, entry), latent, entry), (None, "mlp"))
        self.entry_bias = param(jnp.zeros(entry), ("mlp",))
        self.blocks = nnx.List(
            [
                UpBlock(into, out, classes, key=key)
                for into, out, key in zip(widths[:1] + widths, widths, keys[3:], strict=False)
            ]
        )
        self.middle = middle(attention, widths[self.attends_after], keys[1])
        self.norm = BatchNorm(width)
        self.output = Conv(width, channels, key=keys[2])

    def __call__(
        self,
        noise: Float[Array, "B Z"],
        labels: Int[Array, " B"] | None,
        moments: tuple[Moments, ...] | None = None,
    ) -> Generated:
        """Draws images.

        Args:
            noise: z, standard normal.
            labels: the class of each; None if there are no classes.
            moments: what the norms are to normalise by; the batch's own if None.
        """
        known = moments or (None,) * (2 * len(self.blocks) + 1)
        x = affine(noise.astype(self.dtype), self.entry[...], self.entry_bias[...])
        x = x.reshape(-1, SMALLEST, SMALLEST, self.first_width)
        used: tuple[Moments, ...] = ()
        attention = None
        for n, block in enumerate(self.blocks):
            x, both = block(x, labels, known[2 * n : 2 * n + 2])
            used += both
            if n == self.attends_after:
                x, attention = self.middle(x)
        x, last = self.norm(x, None, known[-1])
        images = jnp.tanh(self.output(jax.nn.relu(x)).astype(jnp.float32))
        return Generated(images, (*used, last), attention)


class Discriminator(nnx.Module):
    """From an image and its class to a number, high for a real one.

    `φ(x) · (w + embedding of the class) + b`, with φ the sum over positions of the last map (Miyato
    & Koyama 2018, eq. 3).

    Args: as those of `Generator`.
    """

    def __init__(
        self,
        *,
        resolution: int,
        channels: int,
        width: int,
        classes: int,
        attention: Kind,
        feature: int,
        dtype: str,
        key: PRNGKeyArray,
    ):
        sizes = map_sizes(resolution)[::-1]
        check_feature(feature, sizes[1:], "discriminator")
        keys = jax.random.split(key, len(sizes) + 4)
        widths = [width * resolution // 2 // size for size in sizes[1:]]
        self.dtype, self.attends_after = jnp.dtype(dtype), sizes.index(feature) - 1
        places: list[Place] = ["between"] * (len(widths) + 1)
        places[0], places[-1] = "first", "last"
        self.blocks = nnx.List(
            [
                DownBlock(into, out, place, key=key)
                for into, out, place, key in zip(
                    [channels, *widths], [*widths, widths[-1]], places, keys[3:], strict=False
                )
            ]
        )
        self.middle = middle(attention, widths[self.attends_after], keys[0])
        last = widths[-1]
        self.output = kernel(glorot(keys[1], (last, 1), last, 1), (None, None))
        self.output_bias = param(jnp.zeros(1), (None,))
        if classes:
            table = glorot(keys[2], (classes, last), classes, last)
            self.embedding = kernel(table, (None, None))

    def __call__(
        self, images: Float[Array, "B Y X C"], labels: Int[Array, " B"] | None
    ) -> Float[Array, " B"]:
        """How real each image of a class seems, in float32."""
        x = images.astype(self.dtype)
        for n, block in enumerate(self.blocks):
            x = block(x)
            if n == self.attends_after:
                x, _ = self.middle(x)
        seen = jax.nn.relu(x.astype(jnp.float32)).sum((1, 2))
        logits = (seen @ self.output[...] + self.output_bias[...])[:, 0]
        if hasattr(self, "embedding"):
            logits += jnp.sum(seen * self.embedding[...][labels], -1)
        return logits


def map_sizes(resolution: int) -> list[int]:
    """Rows of the maps from 4 to the image's own.

    Raises:
        ValueError: if no doubling of 4 gives it.
    """
    sizes = [SMALLEST]
    while sizes[-1] < resolution:
        sizes.append(2 * sizes[-1])
    if sizes[-1] != resolution or len(sizes) < 2:
        raise ValueError(f"resolution must be 8, 16, 32 and so on, not {resolution}")
    return sizes


def check_feature(feature: int, sizes: list[int], network: str) -> None:
    """Whether a network has maps of that size.

    Raises:
        ValueError: if not.
    """
    if feature not in sizes:
        known = ", ".join(map(str, sizes))
        raise ValueError(f"feature must be one of the {network}'s maps, {known}, not {feature}")
