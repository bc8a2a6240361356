"""Inception v3, by whose features images are compared, as the Fréchet Inception Distance has it.

Szegedy et al. 2016, "Rethinking the Inception Architecture", in the form that Heusel et al. 2017
took over: the network of 2015-12-05 with 1,008 classes, whose averages leave out what lies beyond
the map and whose last block takes the largest of 3 x 3 instead. Weights are those of a file, by the
names that PyTorch's version of the network gives them.
"""

from collections.abc import Callable, Mapping

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float

from models.classifier import Seen
from models.convolutions import convolve

Weights = Mapping[str, Float[Array, "..."]]
# unit(name, x, outputs, kernel, stride, padding): convolution, normalisation and rectifier.
Unit = Callable[..., Array]
SIDE, FEATURES, CLASSES, EPSILON = 299, 2048, 1008, 1e-3


def see(weights: Weights, images: Float[Array, "B Y X 3"]) -> Seen:
    """Features and logits of images in [-1, 1], enlarged to 299 x 299.

    Args:
        weights: see `shapes`.
        images: of any size.
    """

    def unit(name, x, outputs, kernel=(1, 1), stride=1, padding="SAME"):
        del outputs  # the weights say it
        norm = {part: weights[f"{name}.bn.{part}"] for part in _NORM}
        scale = norm["weight"] * lax.rsqrt(norm["running_var"] + EPSILON)
        x = convolve(x, weights[f"{name}.conv.weight"].transpose(2, 3, 1, 0), stride, padding)
        return jax.nn.relu(x * scale + (norm["bias"] - norm["running_mean"] * scale))

    features = body(enlarge(images), unit)
    return Seen(features, features @ weights["fc.weight"].T + weights["fc.bias"])


def shapes() -> dict[str, tuple[int, ...]]:
    """Of every weight that there must be."""
    found = {"fc.weight": (CLASSES, FEATURES), "fc.bias": (CLASSES,)}

    def unit(name, x, outputs, kernel=(1, 1), stride=1, padding="SAME"):
        found[f"{name}.conv.weight"] = (outputs, x.shape[-1], *kernel)
        found.update({f"{name}.bn.{part}": (outputs,) for part in _NORM})
        return convolve(x, jnp.zeros((*kernel, x.shape[-1], outputs)), stride, padding)

    jax.eval_shape(lambda x: body(x, unit), jax.ShapeDtypeStruct((1, SIDE, SIDE, 3), jnp.float32))
    return found


def enlarge(images: Float[Array, "B Y X 3"]) -> Float[Array, "B 299 299 3"]:
    """Bilinearly, without smoothing where images are made smaller, as PyTorch does."""
    shape = (len(images), SIDE, SIDE, 3)
    return jax.image.resize(images, shape, "bilinear", antialias=False)


def body(x: Float[Array, "B 299 299 3"], unit: Unit) -> Float[Array, "B 2048"]:
    """All but the last layer."""
    x = unit("Conv2d_1a_3x3", x, 32, (3, 3), 2, "VALID")
    x = unit("Conv2d_2a_3x3", x, 32, (3, 3), 1, "VALID")
    x = unit("Conv2d_2b_3x3", x, 64, (3, 3))
    x = _largest(x, 2)
    x = unit("Conv2d_3b_1x1", x, 80)
    x = unit("Conv2d_4a_3x3", x, 192, (3, 3), 1, "VALID")
    x = _largest(x, 2)
    for name, pooled in (("Mixed_5b", 32), ("Mixed_5c", 64), ("Mixed_5d", 64)):
        x = _block_a(name, x, unit, pooled)
    x = _block_b("Mixed_6a", x, unit)
    for name, width in (("Mixed_6b", 128), ("Mixed_6c", 160), ("Mixed_6d", 160), ("Mixed_6e", 192)):
        x = _block_c(name, x, unit, width)
    x = _block_d("Mixed_7a", x, unit)
    x = _block_e("Mixed_7b", x, unit, _mean)
    x = _block_e("Mixed_7c", x, unit, lambda x: _largest(x, 1))
    return x.mean((1, 2))


_NORM = ("weight", "bias", "running_mean", "running_var")
_ROW, _COLUMN = (1, 7), (7, 1)


def _block_a(block, x, unit, pooled):
    one = unit(f"{block}.branch1x1", x, 64)
    five = unit(f"{block}.branch5x5_1", x, 48)
    five = unit(f"{block}.branch5x5_2", five, 64, (5, 5))
    double = unit(f"{block}.branch3x3dbl_1", x, 64)
    double = unit(f"{block}.branch3x3dbl_2", double, 96, (3, 3))
    double = unit(f"{block}.branch3x3dbl_3", double, 96, (3, 3))
    pool = unit(f"{block}.branch_pool", _mean(x), pooled)
    return jnp.concatenate([one, five, double, pool], -1)


def _block_b(block, x, unit):
    three = unit(f"{block}.branch3x3", x, 384, (3, 3), 2, "VALID")
    double = unit(f"{block}.branch3x3dbl_1", x, 64)
    double = unit(f"{block}.branch3x3dbl_2", double, 96, (3, 3))
    double = unit(f"{block}.branch3x3dbl_3", double, 96, (3, 3), 2, "VALID")
    return jnp.concatenate([three, double, _largest(x, 2)], -1)


def _block_c(block, x, unit, width):
    one = unit(f"{block}.branch1x1", x, 192)
    seven = unit(f"{block}.branch7x7_1", x, width)
    seven = unit(f"{block}.branch7x7_2", seven, width, _ROW)
    seven = unit(f"{block}.branch7x7_3", seven, 192, _COLUMN)
    double = unit(f"{block}.branch7x7dbl_1", x, width)
    double = unit(f"{block}.branch7x7dbl_2", double, width, _COLUMN)
    double = unit(f"{block}.branch7x7dbl_3", double, width, _ROW)
    double = unit(f"{block}.branch7x7dbl_4", double, width, _COLUMN)
    double = unit(f"{block}.branch7x7dbl_5", double, 192, _ROW)
    pool = unit(f"{block}.branch_pool", _mean(x), 192)
    return jnp.concatenate([one, seven, double, pool], -1)


def _block_d(block, x, unit):
    three = unit(f"{block}.branch3x3_1", x, 192)
    three = unit(f"{block}.branch3x3_2", three, 320, (3, 3), 2, "VALID")
    seven = unit(f"{block}.branch7x7x3_1", x, 192)
    seven = unit(f"{block}.branch7x7x3_2", seven, 192, _ROW)
    seven = unit(f"{block}.branch7x7x3_3", seven, 192, _COLUMN)
    seven = unit(f"{block}.branch7x7x3_4", seven, 192, (3, 3), 2, "VALID")
    return jnp.concatenate([three, seven, _largest(x, 2)], -1)


def _block_e(block, x, unit, pool):
    one = unit(f"{block}.branch1x1", x, 320)
    three = unit(f"{block}.branch3x3_1", x, 384)
    three = [
        unit(f"{block}.branch3x3_2a", three, 384, (1, 3)),
        unit(f"{block}.branch3x3_2b", three, 384, (3, 1)),
    ]
    double = unit(f"{block}.branch3x3dbl_1", x, 448)
    double = unit(f"{block}.branch3x3dbl_2", double, 384, (3, 3))
    double = [
        unit(f"{block}.branch3x3dbl_3a", double, 384, (1, 3)),
        unit(f"{block}.branch3x3dbl_3b", double, 384, (3, 1)),
    ]
    pooled = unit(f"{block}.branch_pool", pool(x), 192)
    return jnp.concatenate([one, *three, *double, pooled], -1)


def _largest(x, stride):
    """Of 3 x 3; at a stride of 1 the map keeps its size."""
    padding = "SAME" if stride == 1 else "VALID"
    return lax.reduce_window(x, -jnp.inf, lax.max, (1, 3, 3, 1), (1, stride, stride, 1), padding)


def _mean(x):
    """Of those of 3 x 3 that are on the map."""
    add = lambda x: lax.reduce_window(x, 0.0, lax.add, (1, 3, 3, 1), (1, 1, 1, 1), "SAME")
    return add(x) / add(jnp.ones((1, *x.shape[1:3], 1), x.dtype))
