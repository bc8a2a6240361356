"""Shortest tours, exactly, of whole batches on the device.

Source: Held & Karp 1962, "A Dynamic Programming Approach to Sequencing Problems". The table has an
entry for every set of cities and every city of it: the shortest path from the first city through
the set that ends there. It takes n² 2^n steps, so this is for a dozen cities.
"""

import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float, Int

MOST = 12  # cities: beyond, the table of a batch is larger than any cache


def held_karp(
    points: Float[Array, "B N 2"], count: Int[Array, ""]
) -> tuple[Int[Array, "B N"], Float[Array, " B"]]:
    """The shortest tour of the first `count` cities of each row.

    A set is a number, in which bit j - 1 stands for city j; every set comes after its subsets. The
    batch is the last axis, along which all is done at once. Rows whose tables do not fit the cache
    together take longer each: about 128 are best.

    Args:
        points: `[B, N, 2]`.
        count: from 2 to N, the same for all rows; it may be traced, and no time is spent on others.

    Returns:
        Cities in order, counter-clockwise where the tour does not cross itself and from the first
        on, N after the last; and the tour's length.
    """
    distances = jnp.moveaxis(_distances(points), 0, -1)  # [N, N, B]
    others, batch = points.shape[1] - 1, points.shape[0]
    table = jnp.full((2**others, others + 1, batch), jnp.inf).at[0, 0].set(0.0)

    def fill(cities, table):
        paths = [jnp.full(batch, jnp.inf)]  # none returns to the first city
        for j in range(others):
            # Of a set without j this takes j in: a later entry, not yet known, and so infinite.
            before = lax.dynamic_index_in_dim(table, cities ^ (1 << j), keepdims=False)
            paths.append(jnp.min(before + distances[:, j + 1], axis=0))
        return lax.dynamic_update_index_in_dim(table, jnp.stack(paths), cities, 0)

    all_cities = (1 << (count - 1)) - 1
    table = lax.fori_loop(1, all_cities + 1, fill, table)

    def back(state, step):
        cities, last = state
        paths = jnp.take_along_axis(table, cities[None, None], axis=0)[0]
        paths += jnp.take_along_axis(distances, last[None, None], axis=1)[:, 0]
        city = jnp.where(step < count - 1, jnp.argmin(paths, axis=0), last)
        left = jnp.where(step < count - 1, cities & ~(1 << jnp.maximum(city - 1, 0)), cities)
        return (left, city), city

    last = jnp.zeros(batch, jnp.int32)
    start = jnp.broadcast_to(all_cities, batch), last
    order = jnp.concatenate([last[None], lax.scan(back, start, jnp.arange(others))[1]]).T
    order = jnp.where(jnp.arange(others + 1) < count, order, others + 1)
    return counter_clockwise(points, order), jnp.min(
        lax.dynamic_index_in_dim(table, all_cities, keepdims=False) + distances[:, 0], axis=0
    )


def counter_clockwise(points: Float[Array, "B N 2"], order: Int[Array, "B N"]) -> Int[Array, "B N"]:
    """The same tours from the same first cities, the signed area within them not negative.

    Of a tour's two directions a model should see one, and this one it can tell by looking.

    Args:
        points: `[B, N, 2]`.
        order: cities, N after the last.
    """
    size = points.shape[1]
    steps = jnp.arange(size)
    count = jnp.sum(order < size, axis=1, keepdims=True)
    path = jnp.take_along_axis(points, jnp.minimum(order, size - 1)[..., None], axis=1)
    path = jnp.where((steps < count)[..., None], path, path[:, :1])  # stays at the first city
    x, y = path[..., 0], path[..., 1]
    area = jnp.sum(x * jnp.roll(y, -1, axis=1) - jnp.roll(x, -1, axis=1) * y, axis=1)
    reverse = jnp.where(steps < count, (count - steps) % count, steps)
    backward = jnp.take_along_axis(order, jnp.broadcast_to(reverse, order.shape), axis=1)
    return jnp.where((area < 0)[:, None], backward, order)


def tour_length(points: Float[Array, "B N 2"], order: Int[Array, "B N"]) -> Float[Array, " B"]:
    """Lengths of closed tours.

    Args:
        points: `[B, N, 2]`.
        order: cities, N after the last.
    """
    size = points.shape[1]
    path = jnp.take_along_axis(points, jnp.minimum(order, size - 1)[..., None], axis=1)
    path = jnp.where((order < size)[..., None], path, path[:, :1])  # and so back to the first
    return jnp.sum(jnp.linalg.norm(path - jnp.roll(path, -1, axis=1), axis=-1), axis=1)


def _distances(points):
    return jnp.linalg.norm(points[:, :, None] - points[:, None], axis=-1)
