"""Batched convex hulls and Delaunay triangulations on the device, by exhaustive tests.

Every pair of points is tested for a hull edge (orientation test) and every triple for a Delaunay
triangle (in-circle test). The tests need more operations than a sequential algorithm, but run in
parallel, which is fast for few points.
"""

from itertools import combinations
from typing import Any

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

# At these sizes, the intermediate arrays of a batch of 128 have about 10^7 elements.
MAX_HULL_POINTS, MAX_DELAUNAY_POINTS = 50, 12


def convex_hull(points: Float[Array, "B N 2"], count: Int[Array, ""]) -> Int[Array, "B T"]:
    """Compute the vertices of convex hulls, counter-clockwise from the vertex of lowest index.

    The segment from i to j is an edge if all other points are on its left. The order of the
    vertices follows Vinyals et al. 2015, sec. 3.1.

    Args:
        points: `[B, N, 2]`, no three of them collinear.
        count: number of points of every instance, at least 3.

    Returns:
        Vertex indices, padded with N to T = N + 1.
    """
    size = points.shape[1]
    index = jnp.arange(size)
    exists = index < count
    vectors = points[:, None] - points[:, :, None]  # [B, i, j, 2], from i to j
    left = cross(vectors[:, :, :, None], vectors[:, :, None]) > 0  # [B, i, j, k]: k is left of i j
    i, j, k = np.ix_(*3 * [np.arange(size)])
    edge = jnp.all(left | (k == i) | (k == j) | ~exists, axis=-1) & (index[:, None] != index)
    vertex = jnp.any(edge & exists, axis=-1) & exists
    num_vertices = jnp.sum(vertex, axis=1, keepdims=True)
    center = jnp.sum(jnp.where(vertex[..., None], points, 0.0), axis=1) / num_vertices
    x, y = jnp.moveaxis(points - center[:, None], -1, 0)
    angle = jnp.arctan2(y, x)
    angle -= jnp.take_along_axis(angle, jnp.argmax(vertex, axis=1)[:, None], axis=1)
    angle = jnp.where(angle < 0, angle + 2 * jnp.pi, angle)
    order = jnp.argsort(jnp.where(vertex, angle, jnp.inf), axis=1)
    choices = jnp.where(index < num_vertices, order, size)
    return jnp.pad(choices, ((0, 0), (0, 1)), constant_values=size)


def delaunay(points: Float[Array, "B N 2"], count: Int[Array, ""]) -> Int[Array, "B T"]:
    """Compute Delaunay triangulations, with the triangles sorted by incenter x.

    A triple is a Delaunay triangle if its circumcircle contains no other point. The indices of a
    triangle are in ascending order. Both orders follow Vinyals et al. 2015, sec. 3.2.

    Args:
        points: `[B, N, 2]`, no three of them collinear and no four cocircular.
        count: number of points of every instance, at least 3.

    Returns:
        Three indices per triangle, padded with N to T = 3 (2 N - 5) + 1.
    """
    batch, size, _ = points.shape
    triples = np.array(list(combinations(range(size), 3)))  # [M, 3]
    corners = points[:, triples]  # [B, M, 3, 2]
    # In-circle determinant of the corners relative to each point, times the sign of the area.
    a, b, c = jnp.moveaxis(corners[:, :, None] - points[:, None, :, None], 3, 0)  # [B, M, N, 2]
    squared_norm = lambda x: jnp.sum(x * x, axis=-1)
    determinant = (
        squared_norm(a) * cross(b, c)
        + squared_norm(b) * cross(c, a)
        + squared_norm(c) * cross(a, b)
    )
    p, q, r = jnp.moveaxis(corners, 2, 0)
    in_circle = determinant * cross(q - p, r - p)[..., None] > 0
    index = np.arange(size)
    other = (index[:, None] != triples[:, None]).all(-1) & (index < count)  # [M, N]
    is_delaunay = ~jnp.any(in_circle & other, axis=-1) & (triples[:, 2] < count)

    opposite = jnp.linalg.norm(jnp.roll(corners, -1, 2) - jnp.roll(corners, 1, 2), axis=-1)
    incenter_x = jnp.sum(opposite * corners[..., 0], axis=-1) / jnp.sum(opposite, axis=-1)
    order = jnp.argsort(jnp.where(is_delaunay, incenter_x, jnp.inf), axis=1)[:, : 2 * size - 5]
    valid = jnp.arange(order.shape[1]) < jnp.sum(is_delaunay, axis=1, keepdims=True)
    choices = jnp.where(valid[..., None], jnp.asarray(triples)[order], size).reshape(batch, -1)
    return jnp.pad(choices, ((0, 0), (0, 1)), constant_values=size)


def cross(a: Any, b: Any) -> Any:
    """Cross product of NumPy or JAX vectors `[..., 2]`, positive if b is to the left of a."""
    return a[..., 0] * b[..., 1] - a[..., 1] * b[..., 0]
