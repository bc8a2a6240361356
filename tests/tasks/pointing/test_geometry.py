"""Hulls and triangulations by definition are those of an algorithm."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tasks.pointing import planar, solvers


@pytest.mark.parametrize(("count", "size"), [(4, 4), (5, 8), (11, 11)])
@pytest.mark.parametrize(
    ("ours", "theirs"),
    [(planar.convex_hull, solvers.hulls), (planar.delaunay, solvers.triangulations)],
)
def test_answers_are_scipys(ours, theirs, count, size):
    """In the same order, and full of N after their ends, also where arrays are longer."""
    points = np.random.default_rng(count).random((300, count, 2), np.float32)
    padded = np.pad(points, ((0, 0), (0, size - count), (0, 0)))
    answers = np.asarray(jax.jit(ours)(padded, jnp.int32(count)))
    for answer, right in zip(answers, theirs(points), strict=True):
        assert np.array_equal(
            answer, np.pad(right, (0, len(answer) - len(right)), constant_values=size)
        )


def test_the_longest_answers_fit():
    """A pentagon's hull is all of it; of points within a triangle there are 2n - 5 triangles."""
    angle = 2 * np.pi * np.arange(5) / 5
    pentagon = jnp.asarray(np.stack([np.cos(angle), np.sin(angle)], axis=-1)[None], jnp.float32)
    assert np.array_equal(planar.convex_hull(pentagon, jnp.int32(5)), [[0, 1, 2, 3, 4, 5]])
    within = jnp.array([[[0.0, 0.0], [1.0, 0.0], [0.0, 1.0], [0.3, 0.3], [0.2, 0.5]]])
    answer = planar.delaunay(within, jnp.int32(5))
    assert np.sum(answer < 5) == 3 * (2 * 5 - 5) == answer.shape[1] - 1
