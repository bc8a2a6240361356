"""Schedules and optimizers equal the papers' formulas."""

import jax.numpy as jnp
import numpy as np
import pytest

from training import optimizer
from training.errors import UserError

ADAM = {"method": "adam", "b1": 0.9, "b2": 0.98, "eps": 1e-9, "clip": 0.0}


def rate(step, **schedule):
    """Learning rate at the paper's `step`, which starts at 1."""
    return float(optimizer.build(**schedule, **ADAM).learning_rate(step - 1))


@pytest.mark.parametrize("step", [1, 2, 3999, 4000, 4001, 16_000, 100_000])
def test_inverse_sqrt_is_equation_3_of_attention_is_all_you_need(step):
    d_model, warmup = 512, 4000
    expected = d_model**-0.5 * min(step**-0.5, step * warmup**-1.5)
    peak = (d_model * warmup) ** -0.5
    actual = rate(step, schedule="inverse_sqrt", learning_rate=peak, warmup_steps=warmup)
    assert actual == pytest.approx(expected)


def test_inverse_sqrt_has_hand_computed_values():
    """1/sqrt(512 * 4000) = 6.9877e-4 at step 4000, 1/4 of it at 1000, 1/2 at 16000."""
    noam = {"schedule": "inverse_sqrt", "learning_rate": (512 * 4000) ** -0.5, "warmup_steps": 4000}
    assert rate(4000, **noam) == pytest.approx(6.9877e-4, rel=1e-4)
    assert rate(1000, **noam) == pytest.approx(1.7469e-4, rel=1e-4)
    assert rate(16_000, **noam) == pytest.approx(3.4939e-4, rel=1e-4)


def test_cosine_rises_falls_and_stays_at_zero():
    cosine = {"schedule": "cosine", "learning_rate": 2.0, "warmup_steps": 10, "steps": 110}
    rates = [rate(step, **cosine) for step in (1, 5, 10, 60, 110, 200)]
    np.testing.assert_allclose(rates, [0.2, 1.0, 2.0, 1.0, 0.0, 0.0], atol=1e-6)


def test_constant_without_warmup_is_constant():
    constant = {"schedule": "constant", "learning_rate": 0.5, "warmup_steps": 0}
    assert {rate(step, **constant) for step in (1, 2, 1000)} == {0.5}


def test_first_adam_update_is_the_learning_rate_times_the_sign():
    """At step 1 the bias-corrected moments are g and g**2, so the update is -rate * g / |g|."""
    adam = optimizer.build(schedule="constant", learning_rate=0.1, warmup_steps=0, **ADAM)
    grads = jnp.array([3.0, -0.2])
    updates, _ = adam.update(grads, adam.init(jnp.zeros(2)), jnp.zeros(2))
    np.testing.assert_allclose(updates, [-0.1, 0.1], rtol=1e-4)


def test_adam_clips_the_global_norm():
    """A large eps makes the update depend on the norm: -g / (|g| + eps), with |g| clipped to 1."""
    adam = optimizer.build(
        **ADAM | {"b1": 0.0, "b2": 0.0, "eps": 1.0, "clip": 1.0},
        schedule="constant",
        learning_rate=1.0,
        warmup_steps=0,
    )
    updates, _ = adam.update(jnp.array([3.0, 4.0]), adam.init(jnp.zeros(2)), jnp.zeros(2))
    np.testing.assert_allclose(updates, [-0.6 / 1.6, -0.8 / 1.8], rtol=1e-5)


def test_rmsprop_equals_equations_38_to_41_of_graves_2013():
    rmsprop = optimizer.build(
        method="rmsprop", learning_rate=0.1, decay=0.95, momentum=0.9, eps=1e-4, clip=10.0
    )
    state = rmsprop.init(jnp.zeros(3))
    n = g = delta = np.zeros(3)
    for gradient in ([0.5, -3.0, 40.0], [0.1, 2.0, -7.0], [-1.0, 0.0, 12.0], [0.3, 0.2, 0.1]):
        e = np.clip(gradient, -10, 10)
        n, g = 0.95 * n + 0.05 * e**2, 0.95 * g + 0.05 * e
        delta = 0.9 * delta - 0.1 * e / np.sqrt(n - g**2 + 1e-4)
        updates, state = rmsprop.update(jnp.array(gradient), state, jnp.zeros(3))
        np.testing.assert_allclose(updates, delta, rtol=1e-4)


@pytest.mark.parametrize(
    "options",
    [
        {"method": "rmsprop", "decay": 0.0, "momentum": 0.0, "eps": 1.0},
        {"method": "adadelta", "gradient_scale": 1.0, "rho": 0.0, "eps": 1.0},
        {"method": "sgd", "decay_rate": 1.0, "decay_start": 1, "decay_every": 1},
        {"schedule": "constant", "warmup_steps": 0, **ADAM},
    ],
    ids=lambda options: options["method"],
)
def test_clip_0_disables_clipping(options):
    """The update equals that with a bound which is larger than every gradient."""

    def update(clip):
        tx = optimizer.build(**options | {"clip": clip, "learning_rate": 1.0})
        return tx.update(jnp.array([3.0, 4.0]), tx.init(jnp.zeros(2)), jnp.zeros(2))[0]

    np.testing.assert_array_equal(update(0.0), update(100.0))
    assert (np.abs(update(0.0)) > 0).all()


def test_sgd_halves_the_rate_after_5_epochs_and_then_every_epoch():
    """Luong et al. 2015, with 10 updates per epoch: the last of 10 epochs has the rate 1/32."""
    options = {"learning_rate": 1.0, "decay_rate": 0.5, "decay_start": 50, "decay_every": 10}
    sgd = optimizer.build(method="sgd", clip=5.0, **options)
    rates = [float(sgd.learning_rate(count)) for count in (0, 49, 50, 59, 60, 99)]
    assert rates == [1.0, 1.0, 0.5, 0.5, 0.25, 1 / 32]
    state = sgd.init(jnp.zeros(2))
    updates, state = sgd.update(jnp.array([6.0, 8.0]), state, jnp.zeros(2))  # norm 10
    np.testing.assert_allclose(updates, [-3.0, -4.0], rtol=1e-6)
    updates, _ = sgd.update(jnp.array([0.3, 0.4]), state, jnp.zeros(2))
    np.testing.assert_allclose(updates, [-0.3, -0.4], rtol=1e-6)
    with pytest.raises(UserError, match="decay_every=0 must be at least 1"):
        optimizer.build(method="sgd", clip=0.0, **options | {"decay_every": 0})


def test_exponential_schedule_of_adam_decays_every_5000_updates():
    """Bello et al. 2016, sec. 5.1."""
    options = {"method": "adam", "schedule": "exponential", "learning_rate": 1e-3}
    options |= {"warmup_steps": 0, "b1": 0.9, "b2": 0.999, "eps": 1e-8, "clip": 1.0}
    options |= {"decay_rate": 0.96, "decay_every": 5_000}
    rate = optimizer.build(**options).learning_rate
    expected = [1e-3, 1e-3, 0.96e-3, 0.96e-3, 0.96**2 * 1e-3]
    rates = [float(rate(count)) for count in (0, 4_999, 5_000, 9_999, 10_000)]
    np.testing.assert_allclose(rates, expected, rtol=1e-6)
    for change in ({"decay_rate": None}, {"decay_every": None}, {"warmup_steps": 10}):
        with pytest.raises(UserError, match="'exponential' needs optimizer.decay_rate, optimizer"):
            optimizer.build(**options | change)


@pytest.mark.parametrize("scale", [1.0, 0.04])
def test_adadelta_equals_algorithm_1_of_zeiler_2012(scale):
    """The gradient of a scaled loss is scaled back before it is clipped."""
    rho, eps = 0.95, 1e-6
    options = {"learning_rate": 1.0, "rho": rho, "eps": eps, "clip": 1.0}
    adadelta = optimizer.build(method="adadelta", gradient_scale=1 / scale, **options)
    state = adadelta.init(jnp.zeros(2))
    squared_gradient = squared_update = np.zeros(2)
    for gradient in ([0.3, -0.4], [3.0, 4.0], [-0.1, 0.0], [0.2, -0.9]):
        g = np.array(gradient) / max(1.0, np.hypot(*gradient))
        squared_gradient = rho * squared_gradient + (1 - rho) * g**2
        update = -np.sqrt(squared_update + eps) / np.sqrt(squared_gradient + eps) * g
        squared_update = rho * squared_update + (1 - rho) * update**2
        updates, state = adadelta.update(scale * jnp.array(gradient), state, jnp.zeros(2))
        np.testing.assert_allclose(updates, update, rtol=1e-4)


@pytest.mark.parametrize("method", ["adam", "rmsprop", "adadelta"])
def test_eps_of_0_is_rejected(method):
    """The update of a weight whose gradients are all zero would be 0 / 0."""
    methods = {
        "adam": {"schedule": "constant", "warmup_steps": 0, "b1": 0.9, "b2": 0.98},
        "rmsprop": {"decay": 0.95, "momentum": 0.9},
        "adadelta": {"gradient_scale": 1.0, "rho": 0.95},
    }
    with pytest.raises(UserError, match=f"optimizer.eps of {method} must not be 0"):
        optimizer.build(method=method, learning_rate=1.0, clip=0.0, eps=0.0, **methods[method])


def test_invalid_options_are_errors():
    options = {"learning_rate": 1.0, "warmup_steps": 1}
    with pytest.raises(UserError, match="Did you mean 'adam'"):
        optimizer.build(method="adm", **options)
    with pytest.raises(UserError, match="Invalid options for optimizer.method 'rmsprop'"):
        optimizer.build(method="rmsprop", **options)
    with pytest.raises(UserError, match="Did you mean 'inverse_sqrt'"):
        rate(1, schedule="inverse_sqr", **options)
    with pytest.raises(UserError, match="'cosine' needs optimizer.steps"):
        rate(1, schedule="cosine", **options)
    zero = {"learning_rate": 1.0, "gradient_scale": 0.0, "rho": 0.95, "eps": 1e-6, "clip": 1.0}
    with pytest.raises(UserError, match="of adadelta must not be 0"):
        optimizer.build(method="adadelta", **zero)
    assert rate(20, schedule="constant", **options, steps=10) == 1.0
