"""SNAIL for few-shot image classification.

Source: Mishra et al. 2018, sec. 5.1 and appendix.
"""

from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float, Int, PRNGKeyArray

from attention import affine
from attention.spatial import max_pool
from models.convolutions import convolve
from models.layers import LayerNorm, glorot, param
from models.snail.network import Backbone

BLOCKS = 4  # convolution blocks, each of which halves the resolution


class ImageEmbedding(nnx.Module):
    """Four blocks of convolution, normalization, ReLU and 2x2 max pooling, then a linear layer.

    This is the paper's network for Omniglot, except that it has layer normalization instead of
    batch normalization, so that predictions do not depend on other episodes.

    Args:
        size: P, height and width of an image.
        filters: channels of each convolution.
        width: D, width of the embedding.
        key: PRNG key of the initialization.

    Raises:
        ValueError: if images are too small for the pooling.
    """

    def __init__(self, size: int, filters: int, width: int, *, key: PRNGKeyArray):
        if size < 2**BLOCKS:
            raise ValueError(f"images must have at least {2**BLOCKS} pixels per side, not {size}")
        keys = jax.random.split(key, BLOCKS + 1)
        self.kernels: Any = nnx.List()
        self.norms: Any = nnx.List()
        for n in range(BLOCKS):
            shape = (3, 3, filters if n else 1, filters)
            kernel = glorot(keys[n], shape, 9 * shape[2], 9 * filters)
            self.kernels.append(param(kernel, (None, None, None, "mlp")))
            self.norms.append(LayerNorm(filters))
        flat = (size // 2**BLOCKS) ** 2 * filters
        self.output = param(glorot(keys[-1], (flat, width), flat, width), (None, "embed"))
        self.output_bias = param(jnp.zeros(width), ("embed",))

    def __call__(self, images: Float[Array, "B P P"]) -> Float[Array, "B D"]:
        x = images[..., None]
        for kernel, norm in zip(self.kernels, self.norms, strict=True):
            x = convolve(x, kernel[...])
            even = x.shape[1] // 2 * 2  # drops the last row and column of an odd size
            x = max_pool(jax.nn.relu(norm(x))[:, :even, :even])
        return affine(x.reshape(len(x), -1), self.output[...], self.output_bias[...])


class FewShotClassifier(nnx.Module):
    """Classifier of the last image of an episode, given the previous images and their labels.

    Embeddings are normalized over the images of an episode; the paper normalizes over the batch.

    Args:
        ways: N, classes per episode.
        size: P, height and width of an image.
        filters: channels of the convolutions.
        embedding: width of an image embedding.
        blocks: see `models.snail.network.Backbone`.
        max_length: maximum number T of images per episode, including the last.
        key: PRNG key of the initialization.
    """

    def __init__(
        self,
        *,
        ways: int,
        size: int,
        filters: int,
        embedding: int,
        blocks: str,
        max_length: int,
        key: PRNGKeyArray,
    ):
        embedding_key, backbone_key = jax.random.split(key)
        self.ways = ways
        self.embedding = ImageEmbedding(size, filters, embedding, key=embedding_key)
        self.backbone = Backbone(
            width=embedding + ways, blocks=blocks, max_length=max_length, key=backbone_key
        )
        width = self.backbone.width
        self.output = param(jnp.zeros((width, ways)), ("embed", None))  # initially uniform
        self.output_bias = param(jnp.zeros(ways), (None,))

    def __call__(
        self, images: Float[Array, "B T P P"], labels: Int[Array, "B S"]
    ) -> tuple[Float[Array, "B N"], list[Float[Array, " B T T"]]]:
        """Return the logits of the last image, and the weights of each attention block.

        Args:
            images: T = S + 1 images of each episode.
            labels: labels of all but the last image.
        """
        batch, length = images.shape[:2]
        x = self.embedding(images.reshape(-1, *images.shape[2:])).reshape(batch, length, -1)
        # Without normalization, the component that all images share dominates the differences.
        std = jnp.sqrt(jnp.var(x, axis=1, keepdims=True) + 1e-6)
        x = (x - jnp.mean(x, axis=1, keepdims=True)) / std
        one_hot = jax.nn.one_hot(labels, self.ways)
        one_hot = jnp.pad(one_hot, ((0, 0), (0, 1), (0, 0)))  # the last label is unknown
        x, weights = self.backbone(jnp.concatenate([x, one_hot], axis=-1))
        return affine(x[:, -1], self.output[...], self.output_bias[...]), weights
