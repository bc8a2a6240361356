"""VGG-19 up to its last convolution, which computes the annotations of an image.

Source: Simonyan & Zisserman 2015, configuration E, read at `conv5_4` after the ReLU and before the
last pooling, as in Xu et al. 2015, sec. 4.3. Weights are named and scaled as in torchvision.
"""

import itertools
from collections.abc import Mapping

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float, UInt8

from attention.spatial import max_pool
from models.convolutions import convolve
from models.layers import param

BLOCKS = ((64, 64), (128, 128), (256,) * 4, (512,) * 4, (512,) * 4)  # channels of each convolution
# Channel means and standard deviations of ImageNet, as in the training of torchvision's weights.
MEAN, DEVIATION = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


def weight_shapes() -> dict[str, tuple[int, ...]]:
    """Return the shape of every weight by torchvision's name; kernels are `[out, in, 3, 3]`.

    The number in a name counts the convolutions, ReLUs and poolings: 'features.0.weight', ...
    """
    shapes: dict[str, tuple[int, ...]] = {}
    inputs, position = 3, 0
    for block in BLOCKS:
        for outputs in block:
            shapes[f"features.{position}.weight"] = (outputs, inputs, 3, 3)
            shapes[f"features.{position}.bias"] = (outputs,)
            inputs, position = outputs, position + 2
        position += 1
    return shapes


class VGG19(nnx.Module):
    """Convolutions of VGG-19.

    Args:
        weights: see `weight_shapes`; other weights, such as those of the classifier, are ignored.
    """

    def __init__(self, weights: Mapping[str, Float[Array, "..."]]):
        kernels, biases = (
            [n for n in weight_shapes() if n.endswith(x)] for x in ("weight", "bias")
        )
        self.kernels = nnx.List(
            [param(weights[n].transpose(2, 3, 1, 0), (None, None, None, "mlp")) for n in kernels]
        )
        self.biases = nnx.List([param(weights[n], ("mlp",)) for n in biases])

    def __call__(self, images: Float[Array, "B R R 3"]) -> Float[Array, "B R//16 R//16 512"]:
        """Compute `conv5_4` of normalized images, see `normalize`; R is a multiple of 16."""
        x, layers = images, zip(self.kernels, self.biases, strict=True)
        for n, block in enumerate(BLOCKS):
            x = max_pool(x) if n else x
            for kernel, bias in itertools.islice(layers, len(block)):
                x = jax.nn.relu(convolve(x, kernel[...]) + bias[...])
        return x


def normalize(images: UInt8[Array, "B R R 3"]) -> Float[Array, "B R R 3"]:
    """Standardize pixels in 0 .. 255 by the channel means and deviations of ImageNet."""
    return (images / 255.0 - jnp.array(MEAN)) / jnp.array(DEVIATION)
