"""Convolutions and normalisation of feature maps `[B, Y, X, C]`.

Two of them have a resampling built in, with the same result for less than half of the products. A
map whose positions are doubled and then convolved by 3 x 3 shows every kernel only 2 x 2 different
positions; and the mean of 2 x 2 results of a convolution by 3 x 3 is one convolution by 4 x 4.
On a CPU there is a still shorter way, see `models.stencils`.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax import lax
from jaxtyping import Array, Float, Int, PRNGKeyArray

from attention import affine
from models import stencils
from models.layers import glorot, param
from models.spectral_norm import kernel

# Which of three taps meet each of two neighbours, seen from an even and from an odd position.
_UP = np.array([[[1, 0, 0], [0, 1, 1]], [[1, 1, 0], [0, 0, 1]]], np.float32)
# Which of three taps meet each of four neighbours, for the mean of two results.
_DOWN = np.array([[1, 0, 0], [1, 1, 0], [0, 1, 1], [0, 0, 1]], np.float32) / 2
EPSILON = 1e-5  # beside the variance, as in the authors' code


def convolve(
    x: Float[Array, "B Y X C"],
    weights: Float[Array, "J I C D"],
    stride: int = 1,
    padding="SAME",
) -> Float[Array, "B V U D"]:
    """Correlation with a kernel `[rows, columns, in, out]`, zeros beyond the map."""
    return lax.conv_general_dilated(
        x,
        weights.astype(x.dtype),
        (stride, stride),
        padding,
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
    )


def upsample(x: Float[Array, "B Y X C"]) -> Float[Array, "B 2*Y 2*X C"]:
    """Each position four times."""
    batch, rows, columns, channels = x.shape
    x = jnp.broadcast_to(x[:, :, None, :, None], (batch, rows, 2, columns, 2, channels))
    return x.reshape(batch, 2 * rows, 2 * columns, channels)


def mean_pool(x: Float[Array, "B Y X C"]) -> Float[Array, "B Y//2 X//2 C"]:
    """The mean of each 2 x 2 positions."""
    batch, rows, columns, channels = x.shape
    return x.reshape(batch, rows // 2, 2, columns // 2, 2, channels).mean((2, 4))


def convolve_upsampled(
    x: Float[Array, "B Y X C"], weights: Float[Array, "3 3 C D"]
) -> Float[Array, "B 2*Y 2*X D"]:
    """`convolve(upsample(x), weights)` by 16 products a position instead of 36.

    An even and an odd row see different halves of the kernel, and so do columns: four convolutions
    of 2 x 2, each for a quarter of the result.
    """
    batch, rows, columns, _ = x.shape
    parts = jnp.einsum("ajk,bil,klcd->abjicd", _UP, _UP, weights)
    quarters = [
        [convolve(x, parts[a, b], padding=((1 - a, a), (1 - b, b))) for b in (0, 1)] for a in (0, 1)
    ]
    woven = jnp.stack([jnp.stack(row, axis=3) for row in quarters], axis=2)
    return woven.reshape(batch, 2 * rows, 2 * columns, -1)


def convolve_pooled(
    x: Float[Array, "B Y X C"], weights: Float[Array, "3 3 C D"]
) -> Float[Array, "B Y//2 X//2 D"]:
    """`mean_pool(convolve(x, weights))` by 16 products a position instead of 36."""
    whole = jnp.einsum("jk,il,klcd->jicd", _DOWN, _DOWN, weights)
    return convolve(x, whole, stride=2, padding=((1, 1), (1, 1)))


class Forms(NamedTuple):
    """Three ways in which a map meets a kernel of 3 x 3."""

    plain: Callable[..., Array]
    upsampled: Callable[..., Array]
    pooled: Callable[..., Array]


def forms() -> Forms:
    """The fastest there are: on a CPU products of matrices, elsewhere convolutions.

    What counts are the devices of the mesh, and of a plan these are another machine's.
    """
    device = jax.sharding.get_abstract_mesh().abstract_device
    if (device.platform if device else jax.default_backend()) == "cpu":
        return Forms(stencils.convolve, stencils.convolve_upsampled, stencils.convolve_pooled)
    return Forms(convolve, convolve_upsampled, convolve_pooled)


class Conv(nnx.Module):
    """A convolution with a bias, 3 x 3 or 1 x 1.

    Args:
        inputs: channels that come in.
        outputs: channels that go out.
        size: 3 or 1.
        key: makes the weights.
    """

    def __init__(self, inputs: int, outputs: int, size: int = 3, *, key: PRNGKeyArray):
        area = size * size
        value = glorot(key, (size, size, inputs, outputs), area * inputs, area * outputs)
        self.kernel = kernel(value, (None, None, None, "mlp"))
        self.bias = param(jnp.zeros(outputs), ("mlp",))

    def __call__(self, x: Float[Array, "B Y X C"]) -> Float[Array, "B Y X D"]:
        if self.kernel.shape[0] == 1:
            return affine(x, self.kernel[...][0, 0], self.bias[...])
        return self._biased(forms().plain(x, self.kernel[...]))

    def upsampled(self, x: Float[Array, "B Y X C"]) -> Float[Array, "B 2*Y 2*X D"]:
        """Of the map at twice its size."""
        if self.kernel.shape[0] == 1:
            return upsample(self(x))
        return self._biased(forms().upsampled(x, self.kernel[...]))

    def pooled(self, x: Float[Array, "B Y X C"]) -> Float[Array, "B Y//2 X//2 D"]:
        """Averaged to half the size."""
        if self.kernel.shape[0] == 1:
            return self(mean_pool(x))
        return self._biased(forms().pooled(x, self.kernel[...]))

    def _biased(self, x):
        """In float32, and so is the bias's gradient, a sum over all positions."""
        return (x + self.bias[...]).astype(x.dtype)


class Moments(NamedTuple):
    """Mean and variance of each channel."""

    mean: Float[Array, " C"]
    variance: Float[Array, " C"]


class BatchNorm(nnx.Module):
    """Batch normalisation (Ioffe & Szegedy 2015), with gain and bias by class if there are any.

    Source: Dumoulin et al. 2017 and Miyato & Koyama 2018 for those by class. What a map is
    normalised by is the batch's own moments, which come out, or others, which go in: there are no
    running averages here.

    Args:
        channels: C.
        classes: N, or 0 for one gain and bias for all.
    """

    def __init__(self, channels: int, classes: int = 0):
        shape = (max(classes, 1), channels)
        self.conditional = bool(classes)
        self.gain = param(jnp.ones(shape), (None, None))
        self.bias = param(jnp.zeros(shape), (None, None))

    def __call__(
        self,
        x: Float[Array, "B Y X C"],
        labels: Int[Array, " B"] | None = None,
        moments: Moments | None = None,
    ) -> tuple[Float[Array, "B Y X C"], Moments]:
        """The normalised map, and the moments that it was normalised by."""
        wide = x.astype(jnp.float32)
        if moments is None:
            mean, square = wide.mean((0, 1, 2)), (wide * wide).mean((0, 1, 2))
            moments = Moments(mean, jnp.maximum(square - mean * mean, 0.0))
        gain, bias = self.gain[...], self.bias[...]
        if self.conditional:
            gain, bias = gain[labels], bias[labels]
        scale = gain * lax.rsqrt(moments.variance + EPSILON)
        shift = bias - moments.mean * scale
        y = wide * scale[:, None, None] + shift[:, None, None]
        return y.astype(x.dtype), moments
