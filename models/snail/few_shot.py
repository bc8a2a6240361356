"""SNAIL as a classifier: from a few labelled pictures to the label of one more.

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

POOLED = 4  # how many times a picture is halved


class Embedder(nnx.Module):
    """Four times a convolution, a norm, a rectifier and a pooling by two; then a linear layer.

    The paper's for Omniglot, with layer normalisation where it has that of a batch: an answer then
    depends on its own episode alone.

    Args:
        size: P, of a picture's sides.
        filters: of each convolution.
        width: of the embedding.
        key: makes the weights.
    """

    def __init__(self, size: int, filters: int, width: int, *, key: PRNGKeyArray):
        if size < 2**POOLED:
            raise ValueError(f"pictures must have at least {2**POOLED} pixels a side, not {size}")
        keys = jax.random.split(key, POOLED + 1)
        self.kernels: Any = nnx.List()
        self.norms: Any = nnx.List()
        for n in range(POOLED):
            shape = (3, 3, filters if n else 1, filters)
            kernel = glorot(keys[n], shape, 9 * shape[2], 9 * filters)
            self.kernels.append(param(kernel, (None, None, None, "mlp")))
            self.norms.append(LayerNorm(filters))
        flat = (size // 2**POOLED) ** 2 * filters
        self.output = param(glorot(keys[-1], (flat, width), flat, width), (None, "embed"))
        self.output_bias = param(jnp.zeros(width), ("embed",))

    def __call__(self, pictures: Float[Array, "B P P"]) -> Float[Array, "B D"]:
        """Each picture as a vector."""
        x = pictures[..., None]
        for kernel, norm in zip(self.kernels, self.norms, strict=True):
            x = convolve(x, kernel[...])
            even = x.shape[1] // 2 * 2  # what is left over is in no window
            x = max_pool(jax.nn.relu(norm(x))[:, :even, :even])
        return affine(x.reshape(len(x), -1), self.output[...], self.output_bias[...])


class FewShot(nnx.Module):
    """Pictures with their labels, then one without: whose is it?

    Embeddings are normalised over the pictures of their episode, as batch norm would in training.

    Args:
        ways: N, classes of an episode.
        size: P, of a picture's sides.
        filters: of the embedder.
        embedding: width of a picture's embedding.
        blocks: see `models.snail.network.Backbone`.
        longest: T, pictures of an episode, the last included.
        key: makes the weights.
    """

    def __init__(
        self,
        *,
        ways: int,
        size: int,
        filters: int,
        embedding: int,
        blocks: str,
        longest: int,
        key: PRNGKeyArray,
    ):
        keys = jax.random.split(key)
        self.ways = ways
        self.embedder = Embedder(size, filters, embedding, key=keys[0])
        self.body = Backbone(width=embedding + ways, blocks=blocks, max_length=longest, key=keys[1])
        width = self.body.width
        self.output = param(jnp.zeros((width, ways)), ("embed", None))  # first, any is as likely
        self.output_bias = param(jnp.zeros(ways), (None,))

    def __call__(
        self, pictures: Float[Array, "B T P P"], labels: Int[Array, "B S"]
    ) -> tuple[Float[Array, "B N"], list[Float[Array, " B T T"]]]:
        """Logits of the last picture's class, and where each attention block looks.

        Args:
            pictures: T = S + 1 of each episode.
            labels: of all but the last.
        """
        batch, length = pictures.shape[:2]
        x = self.embedder(pictures.reshape(-1, *pictures.shape[2:])).reshape(batch, length, -1)
        # What all pictures share would drown what tells them apart.
        spread = jnp.sqrt(jnp.var(x, axis=1, keepdims=True) + 1e-6)
        x = (x - jnp.mean(x, axis=1, keepdims=True)) / spread
        known = jax.nn.one_hot(labels, self.ways)
        known = jnp.pad(known, ((0, 0), (0, 1), (0, 0)))  # of the last, nothing
        x, weights = self.body(jnp.concatenate([x, known], axis=-1))
        return affine(x[:, -1], self.output[...], self.output_bias[...]), weights
