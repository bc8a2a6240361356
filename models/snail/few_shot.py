"""SNAIL for few-shot image classification.

Source: Mishra et al. 2018, sec. 5.1 and appendix.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float, Int, Key, PRNGKeyArray

from attention import affine
from attention.spatial import max_pool
from models.cache_blocking import keep, map_images
from models.convolutions import conv_functions
from models.layers import LayerNorm, Remat, dropout_of_examples, glorot, param
from models.snail.network import Backbone

BLOCKS = 4  # convolution blocks, each of which halves the resolution
RESIDUAL_FILTERS = (1.0, 1.5, 2.0, 4.0)  # filters of each residual block, relative to the first
RESIDUAL_OUTPUTS = 32  # channels of the last maps of the residual network, relative to the first
LEAK = 0.1  # slope of the leaky ReLU for negative inputs


class ConvolutionalEmbedding(nnx.Module):
    """Four blocks of convolution, normalization, ReLU and 2x2 max pooling, then a linear layer.

    This is the paper's network for Omniglot, except that it has layer normalization instead of
    batch normalization, so that predictions do not depend on other episodes.

    Args:
        size: P, height and width of an image.
        channels: C, channels of an image.
        filters: channels of each convolution.
        width: D, width of the embedding.
        dropout: rate of the dropout after each block.
        key: PRNG key of the initialization.

    Raises:
        ValueError: if images are too small for the pooling.
    """

    def __init__(
        self,
        size: int,
        channels: int,
        filters: int,
        width: int,
        *,
        dropout: float,
        key: PRNGKeyArray,
    ):
        if size < 2**BLOCKS:
            raise ValueError(f"images must have at least {2**BLOCKS} pixels per side, not {size}")
        keys = jax.random.split(key, BLOCKS + 1)
        self.dropout = dropout
        self.kernels: Any = nnx.List()
        self.norms: Any = nnx.List()
        for n in range(BLOCKS):
            self.kernels.append(_conv_kernel(filters if n else channels, filters, key=keys[n]))
            self.norms.append(LayerNorm(filters))
        flat = (size // 2**BLOCKS) ** 2 * filters
        self.output = param(glorot(keys[-1], (flat, width), flat, width), (None, "embed"))
        self.output_bias = param(jnp.zeros(width), ("embed",))

    def __call__(
        self, images: Float[Array, "B P P C"], keys: Key[Array, " B"] | None = None
    ) -> Float[Array, "B D"]:
        """Embed images; `keys` has the PRNG key of each image's dropout, None in evaluation."""
        x = images
        for n, (kernel, norm) in enumerate(zip(self.kernels, self.norms, strict=True)):
            x = _convolve_centered(x, kernel[...])
            if n:  # the first map is large, but computed fast
                x = keep(x)
            x = norm(x, centered=True)
            even = x.shape[1] // 2 * 2  # drops the last row and column of an odd size
            x = jax.nn.relu(max_pool(x[:, :even, :even]))
            x = dropout_of_images(x, self.dropout, keys, n)
        return affine(x.reshape(len(x), -1), self.output[...], self.output_bias[...])


class ResidualBlock(nnx.Module):
    """Three convolutions with normalization and leaky ReLU, a residual connection, max pooling.

    The residual connection has a 1x1 convolution. Maps of an odd size are padded for the pooling.
    """

    def __init__(self, inputs: int, outputs: int, *, key: PRNGKeyArray):
        keys = jax.random.split(key, 4)
        self.kernels: Any = nnx.List()
        self.norms: Any = nnx.List()
        for n in range(3):
            self.kernels.append(_conv_kernel(outputs if n else inputs, outputs, key=keys[n]))
            self.norms.append(LayerNorm(outputs))
        self.shortcut = param(glorot(keys[3], (inputs, outputs), inputs, outputs), (None, "mlp"))

    def __call__(self, x: Float[Array, "B Y X C"]) -> Float[Array, "B _ _ D"]:
        shortcut = affine(x, self.shortcut[...])
        for kernel, norm in zip(self.kernels, self.norms, strict=True):
            x = norm(_convolve_centered(x, kernel[...]), centered=True)
            x = jax.nn.leaky_relu(x, LEAK)
        x = x + shortcut
        odd = x.shape[1] % 2
        return max_pool(jnp.pad(x, ((0, 0), (0, odd), (0, odd), (0, 0)), mode="edge"))


class ResidualEmbedding(nnx.Module):
    """Four residual blocks, a wide 1x1 convolution, mean pooling, ReLU and a linear layer.

    This is the paper's network for mini-ImageNet, with 64, 96, 128 and 256 filters, a convolution
    of 2,048 channels, and a width of 384. It has layer normalization instead of batch
    normalization.

    Args:
        size: P, height and width of an image; any size.
        channels: C, channels of an image.
        filters: channels of the first block.
        width: D, width of the embedding.
        dropout: rate of the dropout after each block and before the last layer; 0.1 in the paper.
        key: PRNG key of the initialization.
    """

    def __init__(
        self,
        size: int,
        channels: int,
        filters: int,
        width: int,
        *,
        dropout: float,
        key: PRNGKeyArray,
    ):
        del size
        keys = jax.random.split(key, BLOCKS + 2)
        self.dropout = dropout
        self.blocks: Any = nnx.List()
        inputs = channels
        for factor, block_key in zip(RESIDUAL_FILTERS, keys[:BLOCKS], strict=True):
            outputs = round(factor * filters)
            self.blocks.append(ResidualBlock(inputs, outputs, key=block_key))
            inputs = outputs
        wide = RESIDUAL_OUTPUTS * filters
        self.wide = param(glorot(keys[-2], (inputs, wide), inputs, wide), (None, "mlp"))
        self.wide_bias = param(jnp.zeros(wide), ("mlp",))
        self.output = param(glorot(keys[-1], (wide, width), wide, width), ("mlp", "embed"))
        self.output_bias = param(jnp.zeros(width), ("embed",))

    def __call__(
        self, images: Float[Array, "B P P C"], keys: Key[Array, " B"] | None = None
    ) -> Float[Array, "B D"]:
        """Embed images; `keys` has the PRNG key of each image's dropout, None in evaluation."""
        x = images
        for n, block in enumerate(self.blocks):
            x = dropout_of_images(block(x), self.dropout, keys, n)
        x = jax.nn.relu(affine(x, self.wide[...], self.wide_bias[...]).mean((1, 2)))
        x = dropout_of_images(x, self.dropout, keys, BLOCKS)
        return affine(x, self.output[...], self.output_bias[...])


EMBEDDINGS: dict[str, Callable[..., Any]] = {
    "convolutional": ConvolutionalEmbedding,
    "residual": ResidualEmbedding,
}


class FewShotClassifier(nnx.Module):
    """Classifier of the query images of an episode, given labeled images.

    Each query is the last element of a sequence whose other elements are the labeled images, so
    queries do not see each other. Embeddings are normalized over the images of a sequence; the
    paper normalizes over the batch.

    Args:
        ways: N, classes per episode.
        size: P, height and width of an image.
        channels: C, channels of an image.
        encoder: network that embeds images, a key of `EMBEDDINGS`.
        filters: channels of the convolutions.
        embedding: width of an image embedding.
        dropout: rate of the dropout in the encoder.
        label_scale: factor of the one-hot labels, which are beside `embedding` features of unit
            variance; 1 in the paper.
        blocks: see `models.snail.network.Backbone`.
        tied_init: see `models.snail.network.AttentionBlock`.
        max_length: maximum number of images per sequence, S + 1.
        remat: see `models.snail.network.Backbone`.
        key: PRNG key of the initialization.

    Raises:
        ValueError: if the encoder is unknown, or a block, `remat` or the image size is invalid.
    """

    def __init__(
        self,
        *,
        ways: int,
        size: int,
        channels: int,
        encoder: str,
        filters: int,
        embedding: int,
        dropout: float,
        label_scale: float,
        blocks: str,
        tied_init: float,
        max_length: int,
        remat: Remat,
        key: PRNGKeyArray,
    ):
        if encoder not in EMBEDDINGS:
            raise ValueError(f"unknown encoder {encoder!r}: choose {' or '.join(EMBEDDINGS)}")
        embedding_key, backbone_key = jax.random.split(key)
        self.ways, self.label_scale = ways, label_scale
        self.embedding = EMBEDDINGS[encoder](
            size, channels, filters, embedding, dropout=dropout, key=embedding_key
        )
        self.backbone = Backbone(
            width=embedding + ways,
            blocks=blocks,
            max_length=max_length,
            remat=remat,
            key=backbone_key,
            tied_init=tied_init,
        )
        width = self.backbone.width
        self.output = param(jnp.zeros((width, ways)), ("embed", None))  # initially uniform
        self.output_bias = param(jnp.zeros(ways), (None,))

    def __call__(
        self,
        images: Float[Array, "B T P P C"],
        labels: Int[Array, "B S"],
        key: PRNGKeyArray | None = None,
    ) -> tuple[Float[Array, "B Q N"], list[Float[Array, "B Q S+1 S+1"]]]:
        """Return the logits of the queries, and the weights of each attention block.

        Args:
            images: T = S + Q images of each episode, S labeled images and Q queries.
            labels: classes of the labeled images.
            key: PRNG key of the dropout; None in evaluation.
        """
        batch, support = labels.shape
        queries = images.shape[1] - support
        x = map_images(self.embedding, images.reshape(-1, *images.shape[2:]), key)
        x = x.reshape(batch, support + queries, -1)
        shared = jnp.broadcast_to(x[:, None, :support], (batch, queries, support, x.shape[-1]))
        x = jnp.concatenate([shared, x[:, support:, None]], axis=2)
        # Without normalization, the component that all images share dominates the differences.
        std = jnp.sqrt(jnp.var(x, axis=2, keepdims=True) + 1e-6)
        x = (x - jnp.mean(x, axis=2, keepdims=True)) / std
        one_hot = self.label_scale * jax.nn.one_hot(labels, self.ways)
        one_hot = jnp.pad(one_hot, ((0, 0), (0, 1), (0, 0)))  # the label of the query is unknown
        one_hot = jnp.broadcast_to(one_hot[:, None], (*x.shape[:3], self.ways))
        x = jnp.concatenate([x, one_hot], axis=-1)
        x, weights = self.backbone(x.reshape(batch * queries, support + 1, -1))
        logits = affine(x[:, -1], self.output[...], self.output_bias[...])
        split = lambda x: x.reshape(batch, queries, *x.shape[1:])
        return split(logits), [split(x) for x in weights]


def dropout_of_images(
    x: Float[Array, "B *D"], rate: float, keys: Key[Array, " B"] | None, layer: int
) -> Float[Array, "B *D"]:
    """Apply dropout after layer n = `layer`; masks depend only on the key of each image and n."""
    if keys is not None:
        keys = jax.vmap(lambda key: jax.random.fold_in(key, layer))(keys)
    return dropout_of_examples(x, rate, keys)


def _conv_kernel(inputs: int, outputs: int, *, key: PRNGKeyArray) -> nnx.Param:
    """Return a 3x3 kernel."""
    kernel = glorot(key, (3, 3, inputs, outputs), 9 * inputs, 9 * outputs)
    return param(kernel, (None, None, None, "mlp"))


def _convolve_centered(
    x: Float[Array, "B Y X C"], kernel: Float[Array, "3 3 C D"]
) -> Float[Array, "B Y X D"]:
    """Convolution minus its mean over filters, which the layer normalization would subtract.

    The mean of the kernel is subtracted, which takes less time than the one of the maps.
    """
    return conv_functions().plain(x, kernel - kernel.mean(-1, keepdims=True))
