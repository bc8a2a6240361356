"""The supervised training step: gradient accumulation and metrics."""

import jax
import numpy as np
import pytest

from tests import toy
from tests.training.runs import toy_config
from training.errors import UserError


def run_step(accumulate):
    """Return the state and metrics of one step from the initial state."""
    task = toy.build(toy_config(train__accumulate=accumulate, data__noise=0.0), "")
    state = task.init(jax.random.key(0))
    return jax.jit(task.train_step)(state, task.batch(7), jax.random.key(1))


@pytest.fixture(scope="module")
def whole_batch():
    return run_step(1)


@pytest.mark.parametrize("accumulate", [2, 4, 16])
def test_accumulated_update_equals_whole_batch_update(whole_batch, accumulate):
    """The microbatches have different weights."""
    accumulated = run_step(accumulate)
    for a, b in zip(jax.tree.leaves(accumulated), jax.tree.leaves(whole_batch), strict=True):
        np.testing.assert_allclose(a, b, rtol=2e-5, atol=1e-6)


def test_step_uses_the_gradient_of_the_weighted_mean(whole_batch):
    """The gradient norm equals a finite difference along the gradient."""
    task = toy.build(toy_config(data__noise=0.0), "")
    params, batch = task.init(jax.random.key(0)).params, task.batch(7)

    def mean(params):
        total, weight, _ = task.loss(params, batch, jax.random.key(1))
        return total / weight

    grads = jax.grad(mean)(params)
    norm = np.sqrt(sum(np.sum(np.square(g)) for g in jax.tree.leaves(grads)))
    ahead, behind = (
        jax.tree.map(lambda p, g, e=e: p + e * g / norm, params, grads) for e in (1e-2, -1e-2)
    )
    slope = (mean(ahead) - mean(behind)) / 2e-2
    metrics = whole_batch[1]
    assert metrics["grad_norm"] == pytest.approx(float(slope), rel=1e-3)
    assert metrics["loss"] == pytest.approx(float(mean(params)), rel=1e-5)


def test_items_are_the_weight_and_the_learning_rate_is_the_schedule(whole_batch):
    metrics = whole_batch[1]
    assert metrics["items"] == toy.build(toy_config(), "").batch(7)["w"].sum()
    assert metrics["learning_rate"] == pytest.approx(1e-3)  # 1e-2 at step 1 of 10 warmup steps


def test_batch_that_cannot_be_split_evenly_is_an_error():
    with pytest.raises(UserError, match="train.accumulate=3"):
        run_step(3)
