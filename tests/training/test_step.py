"""The supervised step: accumulation is exact, metrics are means over the weights."""

import jax
import numpy as np
import pytest

from tests import toy
from tests.training.runs import small
from training.errors import UserError


def step(accumulate, **changes):
    task = toy.build(small(train__accumulate=accumulate, data__noise=0.0, **changes), "")
    state = task.init(jax.random.key(0))
    return jax.jit(task.train_step)(state, task.batch(7), jax.random.key(1))


@pytest.mark.parametrize("accumulate", [2, 4, 16])
def test_accumulating_gives_the_update_of_the_whole_batch(accumulate):
    """Though the microbatches have different weights."""
    whole, parts = step(1), step(accumulate)
    for a, b in zip(jax.tree.leaves(whole), jax.tree.leaves(parts), strict=True):
        np.testing.assert_allclose(a, b, rtol=2e-5, atol=1e-6)


def test_gradient_is_that_of_the_weighted_mean():
    """Finite difference along the gradient."""
    task = toy.build(small(data__noise=0.0), "")
    params, batch = task.init(jax.random.key(0)).params, task.batch(7)

    def mean(params):
        total, weight, _ = task.loss(params, batch, jax.random.key(1))
        return total / weight

    metrics = step(1)[1]
    grads = jax.grad(mean)(params)
    norm = np.sqrt(sum(np.sum(np.square(g)) for g in jax.tree.leaves(grads)))
    along = [jax.tree.map(lambda p, g, e=e: p + e * g / norm, params, grads) for e in (1e-2, -1e-2)]
    slope = (mean(along[0]) - mean(along[1])) / 2e-2
    assert metrics["grad_norm"] == pytest.approx(float(slope), rel=1e-3)
    assert metrics["loss"] == pytest.approx(float(mean(params)), rel=1e-5)


def test_items_are_the_weight_and_the_rate_is_the_schedule():
    task = toy.build(small(), "")
    _, metrics = step(1)
    assert metrics["items"] == task.batch(7)["w"].sum()
    assert metrics["learning_rate"] == pytest.approx(1e-3)  # 1e-2 at step 1 of a warm-up of 10


def test_indivisible_batch_is_a_sentence():
    with pytest.raises(UserError, match="16 rows cannot be cut into train.accumulate=3"):
        step(3)
