"""Exact batched solver of the traveling salesman problem on the device.

Source: Held & Karp 1962, "A Dynamic Programming Approach to Sequencing Problems". The table has an
entry for every set of cities and every city of the set: the length of the shortest path that starts
at the first city, visits the set and ends at that city. Filling it takes O(n² 2^n) operations.
"""

import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float, Int

MAX_POINTS = 12  # for more points, the table of a batch of 128 does not fit into the CPU caches


def held_karp(
    points: Float[Array, "B N 2"], count: Int[Array, ""]
) -> tuple[Int[Array, "B N"], Float[Array, " B"]]:
    """Compute the shortest tours of the first `count` cities.

    A set is a bit mask in which bit j - 1 is city j, so its subsets are smaller integers. The batch
    is the last axis of the table, over which all operations are vectorized; batches of about 128
    are fastest, because larger tables do not fit into the CPU caches.

    Args:
        points: `[B, N, 2]`.
        count: number of cities of every instance, from 2 to N. It may be traced: sets that contain
            later cities are not visited.

    Returns:
        The cities in visiting order, counter-clockwise from the first city and padded with N; and
        the lengths of the tours.
    """
    distances = jnp.moveaxis(_distances(points), 0, -1)  # [N, N, B]
    others, batch = points.shape[1] - 1, points.shape[0]
    table = jnp.full((2**others, others + 1, batch), jnp.inf).at[0, 0].set(0.0)

    def fill(cities, table):
        paths = [jnp.full(batch, jnp.inf)]  # no path returns to the first city
        for j in range(others):
            # If j is not in the set, XOR gives a larger set, whose entry is still infinite.
            before = lax.dynamic_index_in_dim(table, cities ^ (1 << j), keepdims=False)
            paths.append(jnp.min(before + distances[:, j + 1], axis=0))
        return lax.dynamic_update_index_in_dim(table, jnp.stack(paths), cities, 0)

    all_cities = (1 << (count - 1)) - 1
    table = lax.fori_loop(1, all_cities + 1, fill, table)

    def backtrack(state, step):
        cities, last = state
        paths = jnp.take_along_axis(table, cities[None, None], axis=0)[0]
        paths += jnp.take_along_axis(distances, last[None, None], axis=1)[:, 0]
        nearest = jnp.argmin(paths, axis=0).astype(last.dtype)
        city = jnp.where(step < count - 1, nearest, last)
        left = jnp.where(step < count - 1, cities & ~(1 << jnp.maximum(city - 1, 0)), cities)
        return (left.astype(cities.dtype), city), city

    last = jnp.zeros(batch, jnp.int32)
    start = jnp.broadcast_to(all_cities, batch), last
    order = jnp.concatenate([last[None], lax.scan(backtrack, start, jnp.arange(others))[1]]).T
    order = jnp.where(jnp.arange(others + 1) < count, order, others + 1)
    return counter_clockwise(points, order), jnp.min(
        lax.dynamic_index_in_dim(table, all_cities, keepdims=False) + distances[:, 0], axis=0
    )


def counter_clockwise(points: Float[Array, "B N 2"], order: Int[Array, "B N"]) -> Int[Array, "B N"]:
    """Reverse the tours whose signed area is negative, keeping the first city.

    The direction of every tour then follows from its points, so the model can learn it.

    Args:
        points: `[B, N, 2]`.
        order: cities in visiting order, padded with N.
    """
    size = points.shape[1]
    steps = jnp.arange(size)
    count = jnp.sum(order < size, axis=1, keepdims=True)
    path = jnp.take_along_axis(points, jnp.minimum(order, size - 1)[..., None], axis=1)
    path = jnp.where((steps < count)[..., None], path, path[:, :1])  # padding adds no area
    x, y = path[..., 0], path[..., 1]
    area = jnp.sum(x * jnp.roll(y, -1, axis=1) - jnp.roll(x, -1, axis=1) * y, axis=1)
    reverse = jnp.where(steps < count, (count - steps) % count, steps)
    backward = jnp.take_along_axis(order, jnp.broadcast_to(reverse, order.shape), axis=1)
    return jnp.where((area < 0)[:, None], backward, order)


def tour_length(points: Float[Array, "B N 2"], order: Int[Array, "B N"]) -> Float[Array, " B"]:
    """Compute the lengths of closed tours.

    Args:
        points: `[B, N, 2]`.
        order: cities in visiting order, padded with N.
    """
    size = points.shape[1]
    path = jnp.take_along_axis(points, jnp.minimum(order, size - 1)[..., None], axis=1)
    path = jnp.where((order < size)[..., None], path, path[:, :1])  # closes the tour
    return jnp.sum(jnp.linalg.norm(path - jnp.roll(path, -1, axis=1), axis=-1), axis=1)


def _distances(points):
    return jnp.linalg.norm(points[:, :, None] - points[:, None], axis=-1)
