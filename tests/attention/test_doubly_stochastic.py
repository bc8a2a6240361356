"""The doubly stochastic penalty: its value by hand and its gradient by finite differences."""

import jax
import jax.numpy as jnp
import numpy as np

from attention import doubly_stochastic_penalty


def test_value_of_two_positions_over_three_steps():
    weights = jnp.array([[[0.5, 0.5], [1.0, 0.0], [0.25, 0.75]]])
    # Totals 1.75 and 1.25; without the last step 1.5 and 0.5.
    np.testing.assert_allclose(doubly_stochastic_penalty(weights, jnp.ones((1, 3), bool)), [0.625])
    valid = jnp.array([[True, True, False]])
    np.testing.assert_allclose(doubly_stochastic_penalty(weights, valid), [0.5])


def test_zero_if_every_position_is_attended_once():
    weights = jax.nn.one_hot(jnp.array([2, 0, 1]), 3)
    assert doubly_stochastic_penalty(weights, jnp.ones(3, bool)) == 0.0


def test_gradient_equals_finite_differences():
    rng = np.random.default_rng(0)
    weights, direction = rng.random((2, 2, 4, 3))
    valid = jnp.array([[1, 1, 1, 1], [1, 1, 0, 0]], bool)

    def penalty(weights):
        return doubly_stochastic_penalty(jnp.asarray(weights, jnp.float32), valid).sum()

    gradient = jax.grad(penalty)(jnp.asarray(weights, jnp.float32))
    step = 1e-2  # the penalty is quadratic, so central differences are exact up to rounding
    difference = (penalty(weights + step * direction) - penalty(weights - step * direction)) / (
        2 * step
    )
    np.testing.assert_allclose(jnp.sum(gradient * direction), difference, rtol=1e-4)
    assert not gradient[1, 2:].any()
