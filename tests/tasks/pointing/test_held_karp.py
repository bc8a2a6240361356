"""Held-Karp solver, compared with exhaustive search, and functions of tours."""

import itertools
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tasks.pointing.held_karp import counter_clockwise, held_karp, tour_length

BATCH, N = 12, 7
CITIES = np.random.default_rng(0).random((BATCH, N, 2), np.float32)
solve = jax.jit(held_karp)


def closed_lengths(cities, tours):
    """Lengths in float64 of tours `[..., n]` through the same cities."""
    path = cities.astype(np.float64)[tours]
    return np.linalg.norm(path - np.roll(path, -1, axis=-2), axis=-1).sum(-1)


@pytest.mark.parametrize("count", range(2, N + 1))
def test_tours_are_shortest(count):
    orders, lengths = map(np.asarray, solve(CITIES, np.int32(count)))
    tours = np.array([(0, *rest) for rest in itertools.permutations(range(1, count))])
    for cities, order, length in zip(CITIES, orders, lengths, strict=True):
        shortest = closed_lengths(cities, tours).min()
        np.testing.assert_allclose(length, shortest, rtol=1e-5)
        np.testing.assert_allclose(closed_lengths(cities, order[:count]), shortest, rtol=1e-5)
        assert order[0] == 0 and sorted(order[:count]) == list(range(count))
        assert (order[count:] == N).all()


def test_cities_beyond_the_count_are_ignored():
    moved = CITIES + 0.3 * (np.arange(N) >= 5)[:, None].astype(np.float32)
    for x, y in zip(solve(CITIES, np.int32(5)), solve(moved, np.int32(5)), strict=True):
        np.testing.assert_array_equal(x, y)


def test_tours_are_counter_clockwise():
    square = np.full((BATCH, N, 2), 9.0, np.float32)
    square[:, :4] = [[0.0, 0.0], [1.0, 1.0], [1.0, 0.0], [0.0, 1.0]]
    expected = [[0, 2, 1, 3, N, N, N]] * BATCH
    np.testing.assert_array_equal(solve(square, np.int32(4))[0], expected)
    clockwise = np.array([[0, 3, 1, 2, N, N, N]] * BATCH)
    orient = jax.jit(counter_clockwise)
    np.testing.assert_array_equal(orient(square, clockwise), expected)
    order = np.asarray(solve(CITIES, np.int32(N))[0])
    reversed_order = np.roll(order[:, ::-1], 1, axis=1)
    np.testing.assert_array_equal(orient(CITIES, reversed_order), order)


def test_length_is_invariant_to_start_direction_and_rotation():
    rng = np.random.default_rng(1)
    order = np.argsort(rng.random((BATCH, N)), axis=1)
    expected = [closed_lengths(c, o) for c, o in zip(CITIES, order, strict=True)]
    cos, sin = np.cos(0.7), np.sin(0.7)
    rotated = (CITIES @ np.array([[cos, sin], [-sin, cos]]) + 2.0).astype(np.float32)
    length = jax.jit(tour_length)
    for cities, tour in (
        (CITIES, order),
        (CITIES, np.roll(order, 3, axis=1)),
        (CITIES, order[:, ::-1].copy()),
        (rotated, order),
    ):
        np.testing.assert_allclose(length(cities, tour), expected, rtol=1e-5)


def test_length_ignores_padding():
    order = np.full((BATCH, N), N)
    order[:, :3] = np.arange(3)
    expected = [closed_lengths(cities, np.arange(3)) for cities in CITIES]
    np.testing.assert_allclose(jax.jit(tour_length)(CITIES, order), expected, rtol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize(("n", "published"), [(5, 2.12), (10, 2.87)])
def test_mean_lengths_match_published_values(n, published):
    """Vinyals et al. 2015, table 2, "Optimal"."""
    cities = jax.random.uniform(jax.random.key(n), (4_000, n, 2))
    lengths = jax.lax.map(partial(held_karp, count=jnp.int32(n)), cities.reshape(40, 100, n, 2))[1]
    error = float(jnp.std(lengths)) / 4_000**0.5
    assert abs(float(jnp.mean(lengths)) - published) < 0.005 + 3 * error
