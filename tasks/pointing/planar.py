"""Convex hulls and Delaunay triangulations of whole batches on the device, by their definitions.

Every pair of points is asked whether it is a side, every three whether they are a triangle. That is
far more work than an algorithm does, but all of it at once, and for few points next to none.
"""

from itertools import combinations
from typing import Any

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

MOST_OF_HULL, MOST_OF_TRIANGULATION = 50, 12  # points: a batch of 128 makes some 10^7 comparisons


def convex_hull(points: Float[Array, "B N 2"], count: Int[Array, ""]) -> Int[Array, "B T"]:
    """Corners of the hull, counter-clockwise from that of the lowest number.

    A side has all points on its left. Source: Vinyals et al. 2015, sec. 3.1.

    Args:
        points: `[B, N, 2]`, no three of them in a line.
        count: how many of the N there are, three or more.

    Returns:
        Choices, N after the last; T is N + 1.
    """
    size = points.shape[1]
    number = jnp.arange(size)
    there = number < count
    ahead = points[:, None] - points[:, :, None]  # [B, from, to, 2]
    left = cross(ahead[:, :, :, None], ahead[:, :, None]) > 0  # [B, from, to, of whom]
    i, j, k = np.ix_(*3 * [np.arange(size)])
    side = jnp.all(left | (k == i) | (k == j) | ~there, axis=-1) & (number[:, None] != number)
    corner = jnp.any(side & there, axis=-1) & there
    corners = jnp.sum(corner, axis=1, keepdims=True)
    middle = jnp.sum(jnp.where(corner[..., None], points, 0.0), axis=1) / corners
    x, y = jnp.moveaxis(points - middle[:, None], -1, 0)
    angle = jnp.arctan2(y, x)
    turned = angle - jnp.take_along_axis(angle, jnp.argmax(corner, axis=1)[:, None], axis=1)
    turned = jnp.where(turned < 0, turned + 2 * jnp.pi, turned)
    order = jnp.argsort(jnp.where(corner, turned, jnp.inf), axis=1)
    choices = jnp.where(number < corners, order, size)
    return jnp.pad(choices, ((0, 0), (0, 1)), constant_values=size)


def delaunay(points: Float[Array, "B N 2"], count: Int[Array, ""]) -> Int[Array, "B T"]:
    """Delaunay triangles: in each the points ascend, and the first coordinates of incentres do.

    There is no point within the circle through the three of a triangle. Source: Vinyals et al.
    2015, sec. 3.2.

    Args:
        points: `[B, N, 2]`, no three of them in a line and no four on a circle.
        count: how many of the N there are, three or more.

    Returns:
        Choices, N after the last; T is 3 (2 N - 5) + 1.
    """
    rows, size, _ = points.shape
    threes = np.array(list(combinations(range(size), 3)))  # [M, 3]
    corners = points[:, threes]  # [B, M, 3, 2]
    a, b, c = jnp.moveaxis(corners[:, :, None] - points[:, None, :, None], 3, 0)  # [B, M, N, 2]
    squared = lambda x: jnp.sum(x * x, axis=-1)
    lifted = squared(a) * cross(b, c) + squared(b) * cross(c, a) + squared(c) * cross(a, b)
    one, two, three = jnp.moveaxis(corners, 2, 0)
    within = lifted * cross(two - one, three - one)[..., None] > 0
    number = np.arange(size)
    stranger = (number[:, None] != threes[:, None]).all(-1) & (number < count)  # [M, N]
    found = ~jnp.any(within & stranger, axis=-1) & (threes[:, 2] < count)

    opposite = jnp.linalg.norm(jnp.roll(corners, -1, 2) - jnp.roll(corners, 1, 2), axis=-1)
    incentre = jnp.sum(opposite * corners[..., 0], axis=-1) / jnp.sum(opposite, axis=-1)
    order = jnp.argsort(jnp.where(found, incentre, jnp.inf), axis=1)[:, : 2 * size - 5]
    some = jnp.arange(order.shape[1]) < jnp.sum(found, axis=1, keepdims=True)
    choices = jnp.where(some[..., None], jnp.asarray(threes)[order], size).reshape(rows, -1)
    return jnp.pad(choices, ((0, 0), (0, 1)), constant_values=size)


def cross(a: Any, b: Any) -> Any:
    """The cross product of vectors `[..., 2]`, of NumPy or JAX: positive if b is left of a."""
    return a[..., 0] * b[..., 1] - a[..., 1] * b[..., 0]
