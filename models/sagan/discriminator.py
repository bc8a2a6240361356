"""Discriminator of the self-attention GAN."""

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float, Int, PRNGKeyArray

from models.layers import activation_dtype, glorot, param
from models.sagan.blocks import (
    AttentionKind,
    DownBlock,
    Position,
    attention_block,
    check_attention_resolution,
    map_sizes,
)
from models.spectral_norm import spectral_param


class Discriminator(nnx.Module):
    """Projection discriminator: maps images and their classes to scores, high for real images.

    The score is `φ(x) · (w + v_y) + b`, with the embedding v_y of class y and the sum φ of the
    last map over its positions (Miyato & Koyama 2018, eq. 3).

    Args: as for `Generator`, without `latent_size`. `width` is the number of channels of the first
    block; the last block has 2^(n-1) times as many.
    """

    def __init__(
        self,
        *,
        resolution: int,
        channels: int,
        width: int,
        classes: int,
        attention: AttentionKind,
        attention_resolution: int,
        dtype: str,
        key: PRNGKeyArray,
    ):
        sizes = map_sizes(resolution)[::-1]
        check_attention_resolution(attention_resolution, sizes[1:], "discriminator")
        keys = jax.random.split(key, len(sizes) + 4)
        widths = [width * resolution // 2 // size for size in sizes[1:]]
        self.dtype = activation_dtype(dtype)
        self.attention_index = sizes.index(attention_resolution) - 1
        positions: list[Position] = ["middle"] * (len(widths) + 1)
        positions[0], positions[-1] = "first", "last"
        self.blocks = nnx.List(
            [
                DownBlock(into, out, position, key=key)
                for into, out, position, key in zip(
                    [channels, *widths], [*widths, widths[-1]], positions, keys[3:], strict=False
                )
            ]
        )
        self.non_local = attention_block(attention, widths[self.attention_index], keys[0])
        last = widths[-1]
        self.output = spectral_param(glorot(keys[1], (last, 1), last, 1), (None, None))
        self.output_bias = param(jnp.zeros(1), (None,))
        if classes:
            table = glorot(keys[2], (classes, last), classes, last)
            self.embedding = spectral_param(table, (None, None))

    def __call__(
        self, images: Float[Array, "B Y X C"], labels: Int[Array, " B"] | None
    ) -> Float[Array, " B"]:
        """Score images in [-1, 1], in float32."""
        x = images.astype(self.dtype)
        for n, block in enumerate(self.blocks):
            x = block(x)
            if n == self.attention_index:
                x, _ = self.non_local(x)
        features = jax.nn.relu(x.astype(jnp.float32)).sum((1, 2))
        scores = (features @ self.output[...] + self.output_bias[...])[:, 0]
        if hasattr(self, "embedding"):
            scores += jnp.sum(features * self.embedding[...][labels], -1)
        return scores
