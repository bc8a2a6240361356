"""3 x 3 convolutions by Winograd's minimal filtering F(2 x 2, 3 x 3), for CPUs.

Source: Lavin & Gray 2016, "Fast Algorithms for Convolutional Neural Networks", eq. 8 to 12. For a
tile d of 4 x 4 inputs and a kernel g, the 2 x 2 outputs are

    Y = A^T [(G g G^T) * (B^T d B)] A

with the elementwise product `*`. Summed over channels, the products are 16 matrix products of all
tiles: 16 multiplications instead of 36 for the outputs of a tile, a channel and a filter.
"""

import functools
import operator

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float

INPUT_TRANSFORM = ((1, 0, -1, 0), (0, 1, 1, 0), (0, -1, 1, 0), (0, 1, 0, -1))  # B^T
KERNEL_TRANSFORM = ((2, 0, 0), (1, 1, 1), (1, -1, 1), (0, 0, 2))  # 2 G
OUTPUT_TRANSFORM = ((1, 1, 1, 0), (0, 1, -1, -1))  # A^T


def convolve(
    x: Float[Array, "B Y X C"], weights: Float[Array, "3 3 C D"]
) -> Float[Array, "B Y X D"]:
    """Cross-correlation with zero padding.

    Args:
        x: map with even numbers of rows and columns.
        weights: kernel.
    """
    kernels = _transform(KERNEL_TRANSFORM, _taps(weights / 4))
    inputs = _transform(INPUT_TRANSFORM, _store_gradient(_tiles(x)))
    products = [[_matmul(inputs[a][b], kernels[a][b]) for b in range(4)] for a in range(4)]
    outputs = _transform(OUTPUT_TRANSFORM, products)
    interleaved = jnp.stack([jnp.stack(row, axis=3) for row in outputs], axis=2)
    return interleaved.reshape(*x.shape[:3], -1)


def _taps(weights):
    """Return the 3 x 3 taps of a kernel, by `lax.split`, whose transpose is one concatenation."""
    taps = lax.split(weights, [1] * 3)
    return [[tap[0, 0] for tap in lax.split(row, [1] * 3, axis=1)] for row in taps]


def _tiles(x):
    """Return the 4 x 4 positions of all tiles, which overlap by two, as arrays `[B, Y/2, X/2, C]`.

    They are slices without strides of the even and odd positions, because the gradient of a strided
    slice is slow.
    """
    batch, rows, columns, channels = x.shape
    rows, columns = rows // 2, columns // 2
    padded = jnp.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)))
    pairs = padded.reshape(batch, rows + 1, 2, columns + 1, 2, channels)
    phases = [[pairs[:, :, p, :, q] for q in (0, 1)] for p in (0, 1)]
    tile = lambda i, j: phases[i % 2][j % 2][:, i // 2 :, j // 2 :][:, :rows, :columns]
    return [[tile(i, j) for j in range(4)] for i in range(4)]


@jax.custom_vjp
def _store_gradient(x):
    """Return x, whose gradient is stored: XLA would fuse its computation into a slow loop."""
    return x


_store_gradient.defvjp(lambda x: (x, None), lambda _, dx: (lax.optimization_barrier(dx),))


def _matmul(x, matrix):
    """Multiply the channels of a map by a matrix, with all positions as the rows of one product."""
    return (x.reshape(-1, x.shape[-1]) @ matrix).reshape(*x.shape[:-1], -1)


def _transform(matrix, grid):
    """Compute `matrix @ grid @ matrix.T` for a grid of arrays; elements of the matrix are 0, ±1, 2.

    Sums of arrays are fused, which a product with the matrix would not be.
    """
    rows = [[_combine(row, column) for column in zip(*grid, strict=True)] for row in matrix]
    return [[_combine(column, row) for column in matrix] for row in rows]


def _combine(factors, arrays):
    """Sum the products of factors and arrays, except those with factor 0."""
    multiply = {1: lambda x: x, -1: operator.neg, 2: lambda x: x + x}
    terms = zip(factors, arrays, strict=True)
    return functools.reduce(operator.add, (multiply[factor](x) for factor, x in terms if factor))
