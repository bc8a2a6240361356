"""Convolutions of 3 x 3 as products of matrices, alone or with a resampling: for a CPU.

XLA's own take up to twice as long there, their gradients above all.

A convolution shows each position's neighbours to the kernel. Here that is taken apart: neighbours
are put side by side (`_neighbours`, `_pairs`), or what a position has for each of its neighbours is
added up where these are (`_meet`, `_meet_doubled`). Between the two stands one product of all
positions with one matrix; so does each gradient, as either way is the other's transpose.

Along an axis of rows or columns, tap 0 of a kernel stands before its position, tap 2 behind it.
"""

import math

import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float

FEW = 4  # channels of an image: not many even with all of their neighbours' beside them


def convolve(
    x: Float[Array, "B Y X C"], weights: Float[Array, "3 3 C D"]
) -> Float[Array, "B Y X D"]:
    """Correlation with a kernel, zeros beyond the map.

    Neighbours are put side by side along one axis and added up along the other; with few channels
    before or after, along both in the one way or the other.
    """
    weights = weights.astype(x.dtype)
    channels, outputs = weights.shape[2:]
    if channels <= FEW:
        return _product(_neighbours(_neighbours(x, 2), 1), weights)
    if outputs <= FEW:
        return _meet(_meet(_product(x, weights.transpose(2, 0, 1, 3)), 1), 2)
    return _meet(_product(_neighbours(x, 2), weights.transpose(1, 2, 0, 3)), 1)


def convolve_upsampled(
    x: Float[Array, "B Y X C"], weights: Float[Array, "3 3 C D"]
) -> Float[Array, "B 2*Y 2*X D"]:
    """Of the map with each position four times, by 9 products a position instead of 36."""
    parts = _product(x, weights.astype(x.dtype).transpose(2, 0, 1, 3))
    return _meet_doubled(_meet_doubled(parts, 1), 2)


def convolve_pooled(
    x: Float[Array, "B Y X C"], weights: Float[Array, "3 3 C D"]
) -> Float[Array, "B Y//2 X//2 D"]:
    """The mean of each 2 x 2 results, by 9 products instead of 36.

    That is the result for the mean of the 2 x 2 positions that meet a tap.
    """
    return _product(_pairs(_pairs(x, 2), 1), (weights / 4).astype(x.dtype))


def _product(x, weights):
    """Contracts what each position of a map has, `[B, Y, X, *K]`, with `[*K, *D]`."""
    taken = x.ndim - 3
    rows = x.reshape(-1, math.prod(x.shape[3:]))
    result = rows @ weights.reshape(rows.shape[1], -1)
    return result.reshape(*x.shape[:3], *weights.shape[taken:])


def _neighbours(x, axis):
    """The neighbour before, the position and the neighbour behind, stacked at axis 3."""
    return jnp.stack([_shifted(x, axis, -1), x, _shifted(x, axis, 1)], 3)


def _meet(parts, axis):
    """What each tap, at axis 3, has for the position that it meets, added up there."""
    first, second, third = _split(parts, 3)
    return _shifted(first, axis, -1) + second + _shifted(third, axis, 1)


def _pairs(x, axis):
    """Sums of the neighbours that a tap meets for two results, stacked at axis 3."""
    even, odd = _split(x.reshape(*x.shape[:axis], -1, 2, *x.shape[axis + 1 :]), axis + 1)
    return jnp.stack([_shifted(odd, axis, -1) + even, even + odd, odd + _shifted(even, axis, 1)], 3)


def _meet_doubled(parts, axis):
    """As `_meet`, where each position stands twice along the axis."""
    first, second, third = _split(parts, 3)
    even = _shifted(first, axis, -1) + second + third
    odd = first + second + _shifted(third, axis, 1)
    both = jnp.stack([even, odd], axis + 1)
    return both.reshape(*both.shape[:axis], -1, *both.shape[axis + 2 :])


def _shifted(x, axis, by):
    """Position p + by at p, zeros beyond the map."""
    edges = [(-by, by, 0) if n == axis else (0, 0, 0) for n in range(x.ndim)]
    return lax.pad(x, jnp.zeros((), x.dtype), edges)


def _split(x, axis):
    """What stands along an axis; by `lax.split`, whose transpose is to put it together again."""
    return [part.squeeze(axis) for part in lax.split(x, [1] * x.shape[axis], axis)]
