"""Small convolutional classifier, whose features replace Inception's in the evaluation of images.

The classifier is for datasets that differ from photographs, and needs no Inception weights.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float, PRNGKeyArray

from attention import affine
from models.convolutions import Conv
from models.layers import glorot, param


class ClassifierOutput(NamedTuple):
    """Features of the penultimate layer and class logits."""

    features: Float[Array, "B F"]
    logits: Float[Array, "B N"]


class Classifier(nnx.Module):
    """Classifier of 3 x 3 convolutions, which halve the map down to 4 x 4, and two dense layers.

    Args:
        resolution: rows and columns R of an image, 4 · 2^n.
        channels: number of image channels, C.
        classes: N.
        width: output channels of the first convolution; each further convolution doubles the
            channels, up to eight times `width`.
        features: width of the penultimate layer, F.
        key: PRNG key of the initial weights.
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
        inputs, size = channels, resolution
        convolutions: list[Conv] = []
        while size > 4:
            outputs = width * min(2 ** len(convolutions), 8)
            key = jax.random.fold_in(keys[0], len(convolutions))
            convolutions.append(Conv(inputs, outputs, key=key))
            inputs, size = outputs, size // 2
        self.convolutions = nnx.List(convolutions)
        inputs *= size * size
        self.hidden = param(glorot(keys[1], (inputs, features), inputs, features), (None, None))
        self.hidden_bias = param(jnp.zeros(features), (None,))
        self.output = param(glorot(keys[2], (features, classes), features, classes), (None, None))
        self.output_bias = param(jnp.zeros(classes), (None,))

    def __call__(self, images: Float[Array, "B R R C"]) -> ClassifierOutput:
        """Compute features and logits of images in [-1, 1]."""
        x = images
        for convolution in self.convolutions:
            x = jax.nn.relu(convolution.pooled(x))
        x = x.reshape(len(x), -1)
        features = jax.nn.relu(affine(x, self.hidden[...], self.hidden_bias[...]))
        return ClassifierOutput(features, affine(features, self.output[...], self.output_bias[...]))
