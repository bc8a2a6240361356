"""Generator of the self-attention GAN."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float, Int, PRNGKeyArray

from attention import affine
from models.convolutions import BatchNorm, Conv, Moments
from models.layers import activation_dtype, glorot, param
from models.sagan.blocks import (
    COARSEST,
    AttentionKind,
    UpBlock,
    attention_block,
    check_attention_resolution,
    map_sizes,
)
from models.spectral_norm import spectral_param


class GeneratorOutput(NamedTuple):
    """Generated images in [-1, 1], moments used by each batch norm, and attention weights."""

    images: Float[Array, "B Y X C"]
    moments: tuple[Moments, ...]
    attention: Float[Array, "B P S"] | None


class Generator(nnx.Module):
    """Generator that maps latents and classes to images.

    Args:
        resolution: rows and columns of an image, 4 · 2^n.
        channels: number of image channels.
        width: channels of the last block; the first block has 2^(n-1) times as many.
        latent_size: width of the latents, Z.
        classes: N, or 0 for an unconditional generator.
        attention: block at the attention position: `none`, `self`, or the control, `residual`.
        attention_resolution: rows and columns of the map at the attention position.
        dtype: dtype of the activations.
        key: PRNG key of the initial weights.

    Raises:
        ValueError: if the sizes are inconsistent.
    """

    def __init__(
        self,
        *,
        resolution: int,
        channels: int,
        width: int,
        latent_size: int,
        classes: int,
        attention: AttentionKind,
        attention_resolution: int,
        dtype: str,
        key: PRNGKeyArray,
    ):
        sizes = map_sizes(resolution)
        check_attention_resolution(attention_resolution, sizes[1:], "generator")
        keys = jax.random.split(key, len(sizes) + 2)
        widths = [width * resolution // size for size in sizes[1:]]
        self.dtype, self.first_width = activation_dtype(dtype), widths[0]
        self.attention_index = sizes.index(attention_resolution) - 1
        outputs = COARSEST * COARSEST * widths[0]
        dense = glorot(keys[0], (latent_size, outputs), latent_size, outputs)
        self.dense = spectral_param(dense, (None, "mlp"))
        self.dense_bias = param(jnp.zeros(outputs), ("mlp",))
        self.blocks = nnx.List(
            [
                UpBlock(into, out, classes, key=key)
                for into, out, key in zip(widths[:1] + widths, widths, keys[3:], strict=False)
            ]
        )
        self.non_local = attention_block(attention, widths[self.attention_index], keys[1])
        self.norm = BatchNorm(width)
        self.output = Conv(width, channels, key=keys[2])

    def __call__(
        self,
        latents: Float[Array, "B Z"],
        labels: Int[Array, " B"] | None,
        moments: tuple[Moments, ...] | None = None,
    ) -> GeneratorOutput:
        """Generate images.

        Args:
            latents: z, standard normal.
            labels: class of each image; `None` for an unconditional generator.
            moments: moments for each batch norm in order; `None` for the moments of the batch.
        """
        given = moments or (None,) * (2 * len(self.blocks) + 1)
        x = affine(latents.astype(self.dtype), self.dense[...], self.dense_bias[...])
        x = x.reshape(-1, COARSEST, COARSEST, self.first_width)
        used: tuple[Moments, ...] = ()
        attention = None
        for n, block in enumerate(self.blocks):
            x, block_moments = block(x, labels, given[2 * n : 2 * n + 2])
            used += block_moments
            if n == self.attention_index:
                x, attention = self.non_local(x)
        x, last = self.norm(x, None, given[-1])
        images = jnp.tanh(self.output(jax.nn.relu(x)).astype(jnp.float32))
        return GeneratorOutput(images, (*used, last), attention)
