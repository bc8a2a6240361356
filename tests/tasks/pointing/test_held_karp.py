"""Shortest tours against trying them all."""

import itertools
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tasks.pointing.held_karp import counter_clockwise, held_karp, tour_length

N = 8
CITIES = jax.random.uniform(jax.random.key(0), (12, N, 2))
solve = jax.jit(held_karp)


def length(cities, order):
    """By hand, in float64."""
    return sum(
        np.hypot(*(cities[a] - cities[b]))
        for a, b in zip(order, [*order[1:], order[0]], strict=True)
    )


@pytest.mark.parametrize("count", range(2, N + 1))
def test_no_tour_is_shorter(count):
    order, lengths = solve(CITIES, jnp.int32(count))
    for cities, found, shortest in zip(np.asarray(CITIES), order, lengths, strict=True):
        tours = ([0, *rest] for rest in itertools.permutations(range(1, count)))
        best = min(length(cities, tour) for tour in tours)
        np.testing.assert_allclose(shortest, best, rtol=1e-5)
        assert found[0] == 0 and sorted(found[:count].tolist()) == list(range(count))
        assert (found[count:] == N).all()
        np.testing.assert_allclose(length(cities, found[:count].tolist()), best, rtol=1e-5)


def test_cities_beyond_the_count_do_not_matter():
    moved = CITIES.at[:, 5:].add(0.3)
    for one, other in zip(solve(CITIES, jnp.int32(5)), solve(moved, jnp.int32(5)), strict=True):
        np.testing.assert_array_equal(one, other)


def test_tours_go_counter_clockwise():
    """Around a square it is the corners in that order; of a reversed tour, the same again."""
    square = jnp.array([[[0.0, 0.0], [1.0, 1.0], [1.0, 0.0], [0.0, 1.0], [9.0, 9.0]]])
    assert solve(square, jnp.int32(4))[0].tolist() == [[0, 2, 1, 3, 5]]
    clockwise = jnp.array([[0, 3, 1, 2, 5]])
    assert counter_clockwise(square, clockwise).tolist() == [[0, 2, 1, 3, 5]]
    order = solve(CITIES, jnp.int32(N))[0]
    reversed_order = jnp.roll(order[:, ::-1], 1, axis=1)
    np.testing.assert_array_equal(counter_clockwise(CITIES, reversed_order), order)


def test_a_length_knows_no_start_and_no_turn():
    order = jax.vmap(lambda key: jax.random.permutation(key, N))(
        jax.random.split(jax.random.key(1), len(CITIES))
    )
    expected = [length(c, o) for c, o in zip(np.asarray(CITIES), order.tolist(), strict=True)]
    angle = 0.7
    turn = jnp.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    for cities, tour in (
        (CITIES, order),
        (CITIES, jnp.roll(order, 3, axis=1)),
        (CITIES, order[:, ::-1]),
        (CITIES @ turn.T + 2.0, order),
    ):
        np.testing.assert_allclose(tour_length(cities, tour), expected, rtol=1e-5)


def test_a_shorter_row_is_closed_where_it_ends():
    """The number N fills a row, and adds nothing."""
    cities, order = np.asarray(CITIES), jnp.full((len(CITIES), N), N).at[:, :3].set(jnp.arange(3))
    expected = [length(row, [0, 1, 2]) for row in cities]
    np.testing.assert_allclose(tour_length(CITIES, order), expected, rtol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize(("n", "published"), [(5, 2.12), (10, 2.87)])
def test_means_are_the_published_ones(n, published):
    """Vinyals et al. 2015, table 2, "Optimal"."""
    cities = jax.random.uniform(jax.random.key(n), (4_000, n, 2))
    lengths = jax.lax.map(partial(held_karp, count=jnp.int32(n)), cities.reshape(40, 100, n, 2))[1]
    error = float(jnp.std(lengths)) / 4_000**0.5
    assert abs(float(jnp.mean(lengths)) - published) < 0.005 + 3 * error
