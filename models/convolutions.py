"""Convolution and batch normalization of feature maps `[B, Y, X, C]`.

Convolutions followed by mean pooling, or preceded by nearest-neighbor upsampling, are fused with
the resampling, with the same result and less than half of the multiplications: upsampling by a
polyphase decomposition into 2 x 2 kernels, pooling by a 4 x 4 kernel with stride 2. On a CPU,
`models.matmul_convolutions` is faster.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax import lax
from jaxtyping import Array, Float, Int, PRNGKeyArray

from attention import affine
from models import matmul_convolutions
from models.device_batch import is_on_cpu
from models.layers import glorot, param
from models.spectral_norm import spectral_param

# [phase (even, odd output), input position, kernel tap]: taps that read the same input position.
_POLYPHASE = np.array([[[1, 0, 0], [0, 1, 1]], [[1, 1, 0], [0, 0, 1]]], np.float32)
# [tap of the pooled kernel, kernel tap]: mean of the kernel at two neighboring positions.
_POOLED = np.array([[1, 0, 0], [1, 1, 0], [0, 1, 1], [0, 0, 1]], np.float32) / 2
EPSILON = 1e-5  # added to the variance, as in the authors' code


def convolve(
    x: Float[Array, "B Y X C"],
    weights: Float[Array, "J I C D"],
    stride: int = 1,
    padding="SAME",
) -> Float[Array, "B _ _ D"]:
    """Cross-correlation with a kernel `[rows, columns, in, out]` and zero padding."""
    return lax.conv_general_dilated(
        x,
        weights.astype(x.dtype),
        (stride, stride),
        padding,
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
    )


def upsample(x: Float[Array, "B Y X C"]) -> Float[Array, "B 2*Y 2*X C"]:
    """Nearest-neighbor upsampling by a factor of 2."""
    batch, rows, columns, channels = x.shape
    x = jnp.broadcast_to(x[:, :, None, :, None], (batch, rows, 2, columns, 2, channels))
    return x.reshape(batch, 2 * rows, 2 * columns, channels)


def mean_pool(x: Float[Array, "B Y X C"]) -> Float[Array, "B Y//2 X//2 C"]:
    """Mean pooling over 2 x 2 windows with stride 2."""
    batch, rows, columns, channels = x.shape
    return x.reshape(batch, rows // 2, 2, columns // 2, 2, channels).mean((2, 4))


def convolve_upsampled(
    x: Float[Array, "B Y X C"], weights: Float[Array, "3 3 C D"]
) -> Float[Array, "B 2*Y 2*X D"]:
    """Compute `convolve(upsample(x), weights)` with 16 multiplications per input instead of 36.

    Polyphase decomposition: outputs in even and odd rows and columns are four 2 x 2 convolutions of
    `x`, whose results are interleaved.
    """
    batch, rows, columns, _ = x.shape
    kernels = jnp.einsum("ajk,bil,klcd->abjicd", _POLYPHASE, _POLYPHASE, weights)
    phases = [
        [convolve(x, kernels[a, b], padding=((1 - a, a), (1 - b, b))) for b in (0, 1)]
        for a in (0, 1)
    ]
    interleaved = jnp.stack([jnp.stack(row, axis=3) for row in phases], axis=2)
    return interleaved.reshape(batch, 2 * rows, 2 * columns, -1)


def convolve_pooled(
    x: Float[Array, "B Y X C"], weights: Float[Array, "3 3 C D"]
) -> Float[Array, "B Y//2 X//2 D"]:
    """Compute `mean_pool(convolve(x, weights))` with 16 multiplications per output, not 36."""
    kernel = jnp.einsum("jk,il,klcd->jicd", _POOLED, _POOLED, weights)
    return convolve(x, kernel, stride=2, padding=((1, 1), (1, 1)))


class ConvFunctions(NamedTuple):
    """3 x 3 convolution of a map, of the upsampled map, and followed by mean pooling."""

    plain: Callable[..., Array]
    upsampled: Callable[..., Array]
    pooled: Callable[..., Array]


def conv_functions() -> ConvFunctions:
    """Return the fastest implementation: matrix products on a CPU, XLA's convolutions elsewhere."""
    if is_on_cpu():
        return ConvFunctions(
            matmul_convolutions.convolve,
            matmul_convolutions.convolve_upsampled,
            matmul_convolutions.convolve_pooled,
        )
    return ConvFunctions(convolve, convolve_upsampled, convolve_pooled)


class Conv(nnx.Module):
    """3 x 3 or 1 x 1 convolution with a bias; its kernel is marked for spectral normalization.

    Args:
        inputs: number of input channels, C.
        outputs: number of output channels, D.
        size: rows and columns of the kernel, 3 or 1.
        key: PRNG key of the initial weights.
    """

    def __init__(self, inputs: int, outputs: int, size: int = 3, *, key: PRNGKeyArray):
        area = size * size
        value = glorot(key, (size, size, inputs, outputs), area * inputs, area * outputs)
        self.kernel = spectral_param(value, (None, None, None, "mlp"))
        self.bias = param(jnp.zeros(outputs), ("mlp",))

    def __call__(self, x: Float[Array, "B Y X C"]) -> Float[Array, "B Y X D"]:
        """Convolve the map."""
        if self.kernel.shape[0] == 1:
            return affine(x, self.kernel[...][0, 0], self.bias[...])
        return self._add_bias(conv_functions().plain(x, self.kernel[...]))

    def upsampled(self, x: Float[Array, "B Y X C"]) -> Float[Array, "B 2*Y 2*X D"]:
        """Convolve the map after upsampling."""
        if self.kernel.shape[0] == 1:
            return upsample(self(x))
        return self._add_bias(conv_functions().upsampled(x, self.kernel[...]))

    def pooled(self, x: Float[Array, "B Y X C"]) -> Float[Array, "B Y//2 X//2 D"]:
        """Convolve the map and mean-pool the result."""
        if self.kernel.shape[0] == 1:
            return self(mean_pool(x))
        return self._add_bias(conv_functions().pooled(x, self.kernel[...]))

    def _add_bias(self, x):
        """Add the bias in float32, so that its gradient, a sum over positions, is in float32."""
        return (x + self.bias[...]).astype(x.dtype)


class Moments(NamedTuple):
    """Mean and variance of each channel."""

    mean: Float[Array, " C"]
    variance: Float[Array, " C"]


class BatchNorm(nnx.Module):
    """Batch normalization (Ioffe & Szegedy 2015), optionally with a gain and bias per class.

    Source: Dumoulin et al. 2017 and Miyato & Koyama 2018 for class-conditional gain and bias.

    There are no running averages. The moments are computed from the batch and returned, or passed
    as an argument.

    Args:
        channels: C.
        classes: N, or 0 for a gain and bias shared by all classes.
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
        """Normalize the map by `moments` or the moments of the batch; also return the moments."""
        x32 = x.astype(jnp.float32)
        if moments is None:
            # Both means in one pass over the map, as in flax, although x32.var is more accurate.
            mean, square = x32.mean((0, 1, 2)), (x32 * x32).mean((0, 1, 2))
            moments = Moments(mean, jnp.maximum(square - mean * mean, 0.0))
        gain, bias = self.gain[...], self.bias[...]
        if self.conditional:
            gain, bias = gain[labels], bias[labels]
        scale = gain * lax.rsqrt(moments.variance + EPSILON)
        shift = bias - moments.mean * scale
        y = x32 * scale[:, None, None] + shift[:, None, None]
        return y.astype(x.dtype), moments
