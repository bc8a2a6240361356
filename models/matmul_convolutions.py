"""3 x 3 convolutions as matrix products of shifted feature maps, for CPUs.

On a CPU, XLA's convolutions take up to twice as long, in particular their gradients.

The positions of a map are the rows of one matrix product. The shifts of the kernel taps are applied
before the product, where shifted copies of the map are stacked (im2col, `_stack_shifts`), or after
it, where shifted outputs of the taps are summed (`_sum_shifts`). The two operations are transposes
of each other, so gradients have the same form.

Along an axis, tap 0 of a kernel reads the position before the output position, and tap 2
reads the position after the output position.
"""

import math

import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float

from models import winograd

FEW_CHANNELS = 4  # such as the channels of an image: 9 shifted copies are still a small array
WINOGRAD_CHANNELS, WINOGRAD_ELEMENTS = 32, 2**17  # of a map, with which Winograd's is faster


def convolve(
    x: Float[Array, "B Y X C"], weights: Float[Array, "3 3 C D"]
) -> Float[Array, "B Y X D"]:
    """Cross-correlation with zero padding.

    Shifts are stacked along one axis and summed along the other. With few input channels, the
    shifts of both axes are stacked. With few output channels, the shifts of both axes are summed.
    Large maps with many channels are convolved by Winograd's algorithm.
    """
    if _is_faster_by_winograd(x, weights):
        return winograd.convolve(x, weights)
    weights = weights.astype(x.dtype)
    inputs, outputs = weights.shape[2:]
    if inputs <= FEW_CHANNELS:
        return _matmul(_stack_shifts(_stack_shifts(x, 2), 1), weights)
    if outputs <= FEW_CHANNELS:
        return _sum_shifts(_sum_shifts(_matmul(x, weights.transpose(2, 0, 1, 3)), 1), 2)
    return _sum_shifts(_matmul(_stack_shifts(x, 2), weights.transpose(1, 2, 0, 3)), 1)


def convolve_upsampled(
    x: Float[Array, "B Y X C"], weights: Float[Array, "3 3 C D"]
) -> Float[Array, "B 2*Y 2*X D"]:
    """Compute `convolve(upsample(x), weights)` with 9 multiplications per input instead of 36."""
    taps = _matmul(x, weights.astype(x.dtype).transpose(2, 0, 1, 3))
    return _sum_shifts_upsampled(_sum_shifts_upsampled(taps, 1), 2)


def convolve_pooled(
    x: Float[Array, "B Y X C"], weights: Float[Array, "3 3 C D"]
) -> Float[Array, "B Y//2 X//2 D"]:
    """Compute `mean_pool(convolve(x, weights))` with 9 multiplications per output, not 36.

    The inputs that a tap reads for the 2 x 2 pooled outputs are summed before the product.
    """
    return _matmul(
        _stack_pooled_shifts(_stack_pooled_shifts(x, 2), 1), (weights / 4).astype(x.dtype)
    )


def _is_faster_by_winograd(x, weights):
    """Return whether a convolution takes less time by Winograd's algorithm.

    Only float32 maps are eligible: the transforms would round shorter floats once more.
    """
    batch, rows, columns, _ = x.shape
    channels = min(weights.shape[2:])
    even = rows % 2 == 0 == columns % 2
    large = batch * rows * columns * channels >= WINOGRAD_ELEMENTS
    return x.dtype == jnp.float32 and even and large and channels >= WINOGRAD_CHANNELS


def _matmul(x, weights):
    """Contract the trailing axes of a map `[B, Y, X, *K]` with weights `[*K, *D]`."""
    contracted = x.ndim - 3
    rows = x.reshape(-1, math.prod(x.shape[3:]))
    result = rows @ weights.reshape(rows.shape[1], -1)
    return result.reshape(*x.shape[:3], *weights.shape[contracted:])


def _stack_shifts(x, axis):
    """Stack the previous, the current and the next position at axis 3."""
    return jnp.stack([_shift(x, axis, -1), x, _shift(x, axis, 1)], 3)


def _sum_shifts(taps, axis):
    """Sum the outputs of the taps, at axis 3, at the positions that they contribute to."""
    first, second, third = _unstack(taps, 3)
    return _shift(first, axis, -1) + second + _shift(third, axis, 1)


def _stack_pooled_shifts(x, axis):
    """Stack at axis 3, for each tap, the sum of its inputs for a pair of pooled outputs."""
    even, odd = _unstack(x.reshape(*x.shape[:axis], -1, 2, *x.shape[axis + 1 :]), axis + 1)
    return jnp.stack([_shift(odd, axis, -1) + even, even + odd, odd + _shift(even, axis, 1)], 3)


def _sum_shifts_upsampled(taps, axis):
    """`_sum_shifts` for an input whose positions are repeated twice along the axis."""
    first, second, third = _unstack(taps, 3)
    even = _shift(first, axis, -1) + second + third
    odd = first + second + _shift(third, axis, 1)
    both = jnp.stack([even, odd], axis + 1)
    return both.reshape(*both.shape[:axis], -1, *both.shape[axis + 2 :])


def _shift(x, axis, offset):
    """Move the value at position p + offset to p, with zero padding."""
    padding = [(-offset, offset, 0) if n == axis else (0, 0, 0) for n in range(x.ndim)]
    return lax.pad(x, jnp.zeros((), x.dtype), padding)


def _unstack(x, axis):
    """Split an axis by `lax.split`, whose transpose is one concatenation."""
    return [part.squeeze(axis) for part in lax.split(x, [1] * x.shape[axis], axis)]
