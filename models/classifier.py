"""A small convolutional classifier, by whose features generated images are judged.

It stands in for Inception where images are too unlike photographs, or its weights are not at hand.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float, PRNGKeyArray

from attention import affine
from models.convolutions import Conv
from models.layers import glorot, param


class Seen(NamedTuple):
    """What a network sees in images."""

    features: Float[Array, "B F"]
    logits: Float[Array, "B N"]


class Classifier(nnx.Module):
    """Convolutions of 3 x 3 that halve the map down to 4 x 4, and two dense layers.

    Args:
        resolution: rows and columns of an image.
        channels: of an image.
        classes: N.
        width: of the first convolution; each further one has twice as many channels, up to eight
            times.
        features: F, of the layer before the last.
        key: makes the weights.
    """

    def __init__(
        self,
        *,
        resolution: int,
        channels: int,
        classes: int,
        width: int,
        features: int,
        key: PRNGKeyArray,
    ):
        keys = jax.random.split(key, 3)
        before, size = channels, resolution
        convolutions: list[Conv] = []
        while size > 4:
            after = width * min(2 ** len(convolutions), 8)
            key = jax.random.fold_in(keys[0], len(convolutions))
            convolutions.append(Conv(before, after, key=key))
            before, size = after, size // 2
        self.convolutions = nnx.List(convolutions)
        inputs = size * size * before
        self.hidden = param(glorot(keys[1], (inputs, features), inputs, features), (None, None))
        self.hidden_bias = param(jnp.zeros(features), (None,))
        self.output = param(glorot(keys[2], (features, classes), features, classes), (None, None))
        self.output_bias = param(jnp.zeros(classes), (None,))

    def __call__(self, images: Float[Array, "B R R C"]) -> Seen:
        """Features and logits of images in [-1, 1]."""
        x = images
        for convolution in self.convolutions:
            x = jax.nn.relu(convolution.pooled(x))
        x = x.reshape(len(x), -1)
        features = jax.nn.relu(affine(x, self.hidden[...], self.hidden_bias[...]))
        return Seen(features, affine(features, self.output[...], self.output_bias[...]))
