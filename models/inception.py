"""Inception v3 in the variant of the Fréchet Inception Distance.

Szegedy et al. 2016, "Rethinking the Inception Architecture", as used by Heusel et al. 2017: the
TensorFlow model of 2015-12-05 with 1,008 classes. Its average pooling excludes the padding, and its
last block uses max pooling. Weights are loaded from a file and named as in PyTorch's Inception v3.
"""

from collections.abc import Callable, Mapping

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float

from models.classifier import ClassifierOutput
from models.convolutions import convolve

Weights = Mapping[str, Float[Array, "..."]]
# conv(name, x, outputs, kernel, stride, padding): convolution, batch normalization and ReLU.
ConvBlock = Callable[..., Array]
RESOLUTION, FEATURES, CLASSES, EPSILON = 299, 2048, 1008, 1e-3


def apply(weights: Weights, images: Float[Array, "B Y X 3"]) -> ClassifierOutput:
    """Compute features and logits of images in [-1, 1], which are resized to 299 x 299.

    Args:
        weights: see `weight_shapes`.
        images: of any size.
    """

    def conv(name, x, outputs, kernel=(1, 1), stride=1, padding="SAME"):
        del outputs  # given by the shape of the weights
        norm = {part: weights[f"{name}.bn.{part}"] for part in _NORM}
        scale = norm["weight"] * lax.rsqrt(norm["running_var"] + EPSILON)
        x = convolve(x, weights[f"{name}.conv.weight"].transpose(2, 3, 1, 0), stride, padding)
        return jax.nn.relu(x * scale + (norm["bias"] - norm["running_mean"] * scale))

    features = backbone(resize(images), conv)
    return ClassifierOutput(features, features @ weights["fc.weight"].T + weights["fc.bias"])


def weight_shapes() -> dict[str, tuple[int, ...]]:
    """Return the shape of every weight by name."""
    shapes = {"fc.weight": (CLASSES, FEATURES), "fc.bias": (CLASSES,)}

    def conv(name, x, outputs, kernel=(1, 1), stride=1, padding="SAME"):
        shapes[f"{name}.conv.weight"] = (outputs, x.shape[-1], *kernel)
        shapes.update({f"{name}.bn.{part}": (outputs,) for part in _NORM})
        return convolve(x, jnp.zeros((*kernel, x.shape[-1], outputs)), stride, padding)

    images = jax.ShapeDtypeStruct((1, RESOLUTION, RESOLUTION, 3), jnp.float32)
    jax.eval_shape(lambda x: backbone(x, conv), images)
    return shapes


def resize(images: Float[Array, "B Y X 3"]) -> Float[Array, "B 299 299 3"]:
    """Resize images by bilinear interpolation without antialiasing, as in PyTorch."""
    shape = (len(images), RESOLUTION, RESOLUTION, 3)
    return jax.image.resize(images, shape, "bilinear", antialias=False)


def backbone(x: Float[Array, "B 299 299 3"], conv: ConvBlock) -> Float[Array, "B 2048"]:
    """Compute the features, the input of the last layer."""
    x = conv("Conv2d_1a_3x3", x, 32, (3, 3), 2, "VALID")
    x = conv("Conv2d_2a_3x3", x, 32, (3, 3), 1, "VALID")
    x = conv("Conv2d_2b_3x3", x, 64, (3, 3))
    x = _max_pool(x, 2)
    x = conv("Conv2d_3b_1x1", x, 80)
    x = conv("Conv2d_4a_3x3", x, 192, (3, 3), 1, "VALID")
    x = _max_pool(x, 2)
    for name, pool_width in (("Mixed_5b", 32), ("Mixed_5c", 64), ("Mixed_5d", 64)):
        x = _block_a(name, x, conv, pool_width)
    x = _block_b("Mixed_6a", x, conv)
    for name, width in (("Mixed_6b", 128), ("Mixed_6c", 160), ("Mixed_6d", 160), ("Mixed_6e", 192)):
        x = _block_c(name, x, conv, width)
    x = _block_d("Mixed_7a", x, conv)
    x = _block_e("Mixed_7b", x, conv, _average_pool)
    x = _block_e("Mixed_7c", x, conv, lambda x: _max_pool(x, 1))
    return x.mean((1, 2))


_NORM = ("weight", "bias", "running_mean", "running_var")
_ROW_KERNEL, _COLUMN_KERNEL = (1, 7), (7, 1)


def _block_a(block, x, conv, pool_width):
    branch1x1 = conv(f"{block}.branch1x1", x, 64)
    branch5x5 = conv(f"{block}.branch5x5_1", x, 48)
    branch5x5 = conv(f"{block}.branch5x5_2", branch5x5, 64, (5, 5))
    branch_double = conv(f"{block}.branch3x3dbl_1", x, 64)
    branch_double = conv(f"{block}.branch3x3dbl_2", branch_double, 96, (3, 3))
    branch_double = conv(f"{block}.branch3x3dbl_3", branch_double, 96, (3, 3))
    pool = conv(f"{block}.branch_pool", _average_pool(x), pool_width)
    return jnp.concatenate([branch1x1, branch5x5, branch_double, pool], -1)


def _block_b(block, x, conv):
    branch3x3 = conv(f"{block}.branch3x3", x, 384, (3, 3), 2, "VALID")
    branch_double = conv(f"{block}.branch3x3dbl_1", x, 64)
    branch_double = conv(f"{block}.branch3x3dbl_2", branch_double, 96, (3, 3))
    branch_double = conv(f"{block}.branch3x3dbl_3", branch_double, 96, (3, 3), 2, "VALID")
    return jnp.concatenate([branch3x3, branch_double, _max_pool(x, 2)], -1)


def _block_c(block, x, conv, width):
    branch1x1 = conv(f"{block}.branch1x1", x, 192)
    branch7x7 = conv(f"{block}.branch7x7_1", x, width)
    branch7x7 = conv(f"{block}.branch7x7_2", branch7x7, width, _ROW_KERNEL)
    branch7x7 = conv(f"{block}.branch7x7_3", branch7x7, 192, _COLUMN_KERNEL)
    branch_double = conv(f"{block}.branch7x7dbl_1", x, width)
    branch_double = conv(f"{block}.branch7x7dbl_2", branch_double, width, _COLUMN_KERNEL)
    branch_double = conv(f"{block}.branch7x7dbl_3", branch_double, width, _ROW_KERNEL)
    branch_double = conv(f"{block}.branch7x7dbl_4", branch_double, width, _COLUMN_KERNEL)
    branch_double = conv(f"{block}.branch7x7dbl_5", branch_double, 192, _ROW_KERNEL)
    pool = conv(f"{block}.branch_pool", _average_pool(x), 192)
    return jnp.concatenate([branch1x1, branch7x7, branch_double, pool], -1)


def _block_d(block, x, conv):
    branch3x3 = conv(f"{block}.branch3x3_1", x, 192)
    branch3x3 = conv(f"{block}.branch3x3_2", branch3x3, 320, (3, 3), 2, "VALID")
    branch7x7 = conv(f"{block}.branch7x7x3_1", x, 192)
    branch7x7 = conv(f"{block}.branch7x7x3_2", branch7x7, 192, _ROW_KERNEL)
    branch7x7 = conv(f"{block}.branch7x7x3_3", branch7x7, 192, _COLUMN_KERNEL)
    branch7x7 = conv(f"{block}.branch7x7x3_4", branch7x7, 192, (3, 3), 2, "VALID")
    return jnp.concatenate([branch3x3, branch7x7, _max_pool(x, 2)], -1)


def _block_e(block, x, conv, pool):
    branch1x1 = conv(f"{block}.branch1x1", x, 320)
    branch3x3 = conv(f"{block}.branch3x3_1", x, 384)
    branch3x3 = [
        conv(f"{block}.branch3x3_2a", branch3x3, 384, (1, 3)),
        conv(f"{block}.branch3x3_2b", branch3x3, 384, (3, 1)),
    ]
    branch_double = conv(f"{block}.branch3x3dbl_1", x, 448)
    branch_double = conv(f"{block}.branch3x3dbl_2", branch_double, 384, (3, 3))
    branch_double = [
        conv(f"{block}.branch3x3dbl_3a", branch_double, 384, (1, 3)),
        conv(f"{block}.branch3x3dbl_3b", branch_double, 384, (3, 1)),
    ]
    pooled = conv(f"{block}.branch_pool", pool(x), 192)
    return jnp.concatenate([branch1x1, *branch3x3, *branch_double, pooled], -1)


def _max_pool(x, stride):
    """Max pooling over 3 x 3 windows; with stride 1 the map keeps its size."""
    padding = "SAME" if stride == 1 else "VALID"
    return lax.reduce_window(x, -jnp.inf, lax.max, (1, 3, 3, 1), (1, stride, stride, 1), padding)


def _average_pool(x):
    """Mean over the positions of each 3 x 3 window that lie within the map."""
    add = lambda x: lax.reduce_window(x, 0.0, lax.add, (1, 3, 3, 1), (1, 1, 1, 1), "SAME")
    return add(x) / add(jnp.ones((1, *x.shape[1:3], 1), x.dtype))
