"""Masks of the problems, and sampling of points."""

import jax
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tasks.pointing.instances import Hull, Tour, Triangulation, sample_points
from training.errors import UserError

SIZE = 7
PROBLEMS = {problem: problem((3, SIZE)) for problem in (Tour, Hull, Triangulation)}
MASKS = {name: jax.jit(problem.valid_mask) for name, problem in PROBLEMS.items()}
walks = given(st.integers(3, SIZE), st.randoms(use_true_random=False))


def random_walk(problem_type, count, random):
    """Solution of random valid choices."""
    problem, chosen, choices = PROBLEMS[problem_type], np.zeros(SIZE + 1, bool), []
    for position in range(problem.max_steps(count)):
        mask = MASKS[problem_type](chosen, np.int32(position), np.int32(count))
        assert mask.any(), "no valid choice"
        choices.append(int(random.choice(np.flatnonzero(mask))))
        if choices[-1] == SIZE:
            break
        chosen[choices[-1]] = True
    return choices


@settings(deadline=None, max_examples=30)
@walks
def test_valid_tour_visits_every_city_once_from_the_first(count, random):
    choices = random_walk(Tour, count, random)
    assert choices[0] == 0 and sorted(choices) == list(range(count))


@settings(deadline=None, max_examples=30)
@walks
def test_valid_hull_has_three_distinct_vertices_or_more(count, random):
    *vertices, end = random_walk(Hull, count, random)
    assert end == SIZE and 3 <= len(vertices) == len(set(vertices)) and max(vertices) < count


@settings(deadline=None, max_examples=20)
@walks
def test_valid_triangulation_has_complete_triangles(count, random):
    *corners, end = random_walk(Triangulation, count, random)
    assert end == SIZE and len(corners) % 3 == 0 and max(corners) < count


def test_target_mask_includes_the_end_token():
    choices = np.array([[0, 2, 1, 3, 3], [0, 1, 2, 2, 3]])  # 3 is the end token
    for problem, expected in (
        (Tour, [[1, 1, 1, 0, 0], [1, 1, 1, 1, 0]]),
        (Hull, [[1, 1, 1, 1, 0], [1, 1, 1, 1, 1]]),
    ):
        mask = PROBLEMS[problem].target_mask(jax.numpy.asarray(choices), 3)
        np.testing.assert_array_equal(mask, np.array(expected, bool))


def test_sampled_points_depend_on_key_and_index_only():
    sample = jax.jit(sample_points, static_argnums=(2, 3, 4))
    key = jax.random.key(3)
    points, count = sample(key, np.arange(4), 2, 6, 6)
    single, same_count = sample(key, np.array([2]), 2, 6, 6)
    np.testing.assert_array_equal(single[0], points[2])
    assert count == same_count and not np.asarray(points)[:, int(count) :].any()


def test_sampled_counts_cover_the_sizes():
    sample = jax.jit(sample_points, static_argnums=(2, 3, 4))
    counts = {int(sample(jax.random.key(n), np.arange(1), 5, 7, 9)[1]) for n in range(40)}
    assert counts == {5, 6, 7}


@pytest.mark.parametrize("sizes", [(2, 5), (6, 5)])
def test_invalid_sizes_are_rejected(sizes):
    message = f"sizes of a Hull must satisfy 3 <= low <= high, not low={sizes[0]} and high=5"
    with pytest.raises(UserError, match=message):
        Hull(sizes)
