"""What may be chosen, what is asked, and the answers of the libraries."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tasks.pointing import solvers
from tasks.pointing.instances import Hull, Tour, Triangulation, draw
from tasks.pointing.tsp import shortest, tour_lengths
from training.errors import UserError

RNG = np.random.default_rng(0)


def walk(problem, count, size, pick):
    """An answer of allowed choices, made by `pick(allowed)`."""
    chosen, answer = np.zeros(size + 1, bool), []
    for position in range(problem.steps(count)):
        may = problem.allowed(jnp.asarray(chosen), jnp.int32(position), jnp.int32(count))
        assert may.any(), "there is always something to choose"
        choice = pick(np.flatnonzero(may))
        answer.append(int(choice))
        if choice == size:
            break
        chosen[choice] = True
    return answer


@settings(deadline=None, max_examples=30)
@given(st.integers(3, 7), st.randoms(use_true_random=False))
def test_whatever_is_chosen_a_tour_visits_every_city_once_from_the_first(count, random):
    answer = walk(Tour((3, 7)), count, 7, random.choice)
    assert answer[0] == 0 and sorted(answer) == list(range(count))


@settings(deadline=None, max_examples=30)
@given(st.integers(3, 7), st.randoms(use_true_random=False))
def test_whatever_is_chosen_a_hull_has_three_corners_and_none_twice(count, random):
    *corners, end = walk(Hull((3, 7)), count, 7, random.choice)
    assert end == 7 and 3 <= len(corners) == len(set(corners)) and max(corners) < count


@settings(deadline=None, max_examples=20)
@given(st.integers(3, 5), st.randoms(use_true_random=False))
def test_whatever_is_chosen_triangles_are_whole(count, random):
    *corners, end = walk(Triangulation((3, 5)), count, 5, random.choice)
    assert end == 5 and len(corners) % 3 == 0 and max(corners) < count


def test_an_answer_is_asked_for_up_to_its_end():
    choices = jnp.array([[0, 2, 1, 3, 3], [0, 1, 2, 2, 3]])  # 3 is the end
    assert Tour((3, 3)).asked(choices, 3).astype(int).tolist() == [[1, 1, 1, 0, 0], [1, 1, 1, 1, 0]]
    assert Hull((3, 3)).asked(choices, 3).astype(int).tolist() == [[1, 1, 1, 1, 0], [1] * 5]


def test_a_row_of_points_depends_on_its_number_alone():
    key = jax.random.key(3)
    points, count = draw(key, jnp.arange(4), 2, 6, 6)
    alone, same = draw(key, jnp.array([2]), 2, 6, 6)
    np.testing.assert_array_equal(alone[0], points[2])
    assert count == same and not points[:, int(count) :].any()
    counts = {int(draw(jax.random.key(n), jnp.arange(1), 5, 7, 9)[1]) for n in range(40)}
    assert counts == {5, 6, 7}


def test_hulls_turn_left_all_the_way_and_leave_nothing_outside():
    for row, hull in zip(points := RNG.random((20, 9, 2)), solvers.hulls(points), strict=True):
        assert hull[0] == min(hull)
        for a, b in zip(hull, np.roll(hull, -1), strict=True):
            side, to = row[b] - row[a], row - row[a]
            left = side[0] * to[:, 1] - side[1] * to[:, 0]
            assert (np.delete(left, [a, b]) > 0).all()


def test_circles_of_triangles_are_empty_and_incentres_ascend():
    for row, choices in zip(
        points := RNG.random((10, 7, 2)), solvers.triangulations(points), strict=True
    ):
        centres = []
        for a, b, c in choices.reshape(-1, 3):
            assert a < b < c
            corners = row[[a, b, c]]
            # The circle's centre is as far from each corner: two linear equations.
            middle = np.linalg.solve(
                2 * (corners[1:] - corners[0]), (corners[1:] ** 2 - corners[0] ** 2).sum(1)
            )
            radius = np.linalg.norm(corners[0] - middle)
            others = np.delete(row, [a, b, c], axis=0)
            assert (np.linalg.norm(others - middle, axis=1) > radius - 1e-9).all()
            sides = [np.linalg.norm(corners[i - 1] - corners[i - 2]) for i in range(3)]
            centres.append(np.average(corners[:, 0], weights=sides))
        assert centres == sorted(centres)
        hull = len(solvers.hulls(row[None])[0])
        assert len(centres) == 2 * len(row) - 2 - hull  # Euler


@pytest.mark.parametrize("n", [9, 12])
def test_local_search_finds_the_shortest_of_small_tours(n):
    cities = RNG.random((20, n, 2)).astype(np.float32)
    found = np.stack(solvers.tours(cities))
    assert (found[:, 0] == 0).all() and (np.sort(found, 1) == np.arange(n)).all()
    exact = tour_lengths(cities, np.stack(shortest(cities)))
    np.testing.assert_allclose(tour_lengths(cities, found), exact, rtol=1e-4)


def test_tours_of_either_solver_turn_the_same_way():
    cities = RNG.random((20, 8, 2)).astype(np.float32)
    for one, other in zip(solvers.tours(cities), shortest(cities), strict=True):
        np.testing.assert_array_equal(one, other)


def test_of_more_cities_no_two_roads_cross():
    """A tour with a crossing is never the shortest, and 2-opt moves leave none."""
    cities = RNG.random((3, 25, 2)).astype(np.float32)
    cross = lambda a, b: a[0] * b[1] - a[1] * b[0]
    for row, tour in zip(cities, solvers.tours(cities), strict=True):
        roads = [(row[a], row[b]) for a, b in zip(tour, np.roll(tour, -1), strict=True)]
        for (a, b), (c, d) in itertools.combinations(roads, 2):
            apart = lambda p, q, r, s: cross(q - p, r - p) * cross(q - p, s - p) < 0
            assert not (apart(a, b, c, d) and apart(c, d, a, b))


@pytest.mark.parametrize("sizes", [(2, 5), (6, 5)])
def test_numbers_of_points_that_make_no_question_are_a_sentence(sizes):
    with pytest.raises(UserError, match=f"There is no Hull of {sizes[0]} to 5 points."):
        Hull(sizes)
