"""Optimizers and learning rate schedules of the papers."""

import inspect
from collections.abc import Callable
from typing import Any, NamedTuple

import jax.numpy as jnp
import optax

from training.errors import UserError, did_you_mean

SCHEDULES = ("constant", "cosine", "inverse_sqrt", "exponential")


class Optimizer(NamedTuple):
    """An `optax.GradientTransformation` together with its learning rate schedule."""

    init: Callable
    update: Callable
    learning_rate: optax.Schedule


def build(*, method: str, **options) -> Optimizer:
    """Build an optimizer from the `optimizer` section of a config.

    Args:
        method: 'adam', 'sgd', 'adadelta' or 'rmsprop'.
        options: all keyword arguments of the function with that name.

    Raises:
        UserError: if the method is unknown, an option is unknown or missing, or a divisor is 0.
    """
    if method not in METHODS:
        raise UserError(
            f"Unknown optimizer.method {method!r}; choose from {', '.join(METHODS)}."
            + did_you_mean(method, METHODS)
        )
    try:
        inspect.signature(METHODS[method]).bind(**options)
    except TypeError as error:
        raise UserError(f"Invalid options for optimizer.method {method!r}: {error}.") from error
    for divisor in ("eps", "gradient_scale"):
        if options.get(divisor) == 0:
            raise UserError(f"optimizer.{divisor} of {method} must not be 0.")
    return METHODS[method](**options)


def adam(
    *,
    schedule: str,
    learning_rate: float,
    warmup_steps: int,
    b1: float,
    b2: float,
    eps: float,
    clip: float,
    steps: int | None = None,
    decay_rate: float | None = None,
    decay_every: int | None = None,
) -> Optimizer:
    """Adam (Kingma & Ba 2015) with warmup, a schedule and clipping of the gradient norm.

    Args:
        schedule: schedule after the linear warmup: 'constant', 'cosine' (decays to 0 at `steps`),
            'exponential' (multiplied by `decay_rate` every `decay_every` updates) or
            'inverse_sqrt'. The schedule of "Attention is all you need", eq. 3,
            `d_model**-0.5 * min(step**-0.5, step * warmup_steps**-1.5)`, is 'inverse_sqrt' with
            `learning_rate = (d_model * warmup_steps)**-0.5`.
        learning_rate: peak learning rate, reached at step `warmup_steps`.
        warmup_steps: number of steps of the linear warmup; 0 disables it.
        b1: decay rate of the first moment.
        b2: decay rate of the second moment.
        eps: constant added to the square root of the second moment.
        clip: maximum global norm of the gradient; 0 disables clipping.
        steps: last step of the cosine; ignored by the other schedules.
        decay_rate: factor of each decay of the exponential schedule.
        decay_every: number of updates between its decays.

    Raises:
        UserError: if the schedule is unknown, or lacks its options.
    """
    if schedule == "exponential":
        if warmup_steps or decay_rate is None or decay_every is None:
            raise UserError(
                "optimizer.schedule 'exponential' needs optimizer.decay_rate, "
                "optimizer.decay_every and optimizer.warmup_steps=0."
            )
        rate = exponential_decay(learning_rate, decay_rate, decay_every, decay_every)
    else:
        rate = make_schedule(schedule, learning_rate, warmup_steps, steps)
    tx = optax.adam(rate, b1=b1, b2=b2, eps=eps)
    return _clipped(optax.clip_by_global_norm, clip, tx, rate)


def rmsprop(
    *, learning_rate: float, decay: float, momentum: float, eps: float, clip: float
) -> Optimizer:
    """Centered RMSProp with momentum (Graves 2013, eq. 38-41).

    Args:
        learning_rate: constant learning rate.
        decay: decay rate of the moving averages of the gradient and its square.
        momentum: decay rate of the momentum.
        eps: constant added to the variance under the square root.
        clip: gradient elements are clipped to [-clip, clip]; 0 disables clipping.
    """
    rate = optax.constant_schedule(learning_rate)
    tx = optax.rmsprop(
        rate, decay=decay, eps=eps, centered=True, momentum=momentum, eps_in_sqrt=True
    )
    return _clipped(optax.clip, clip, tx, rate)


def sgd(
    *, learning_rate: float, decay_rate: float, decay_start: int, decay_every: int, clip: float
) -> Optimizer:
    """Stochastic gradient descent with a stepwise decay of the learning rate.

    Source: Luong et al. 2015, sec. 4.1: the rate is halved after 5 epochs and then every epoch.

    Args:
        learning_rate: initial learning rate.
        decay_rate: factor of each decay; 1 for a constant rate.
        decay_start: number of updates before the first decay.
        decay_every: number of updates between decays.
        clip: maximum global norm of the gradient; 0 disables clipping.
    """
    rate = exponential_decay(learning_rate, decay_rate, decay_start, decay_every)
    tx = optax.sgd(rate)
    return _clipped(optax.clip_by_global_norm, clip, tx, rate)


def adadelta(
    *, learning_rate: float, gradient_scale: float, rho: float, eps: float, clip: float
) -> Optimizer:
    """Adadelta (Zeiler 2012, algorithm 1).

    Args:
        learning_rate: constant factor of the updates; 1 in the paper.
        gradient_scale: factor of the gradient before clipping; updates depend on the scale of the
            loss, because `eps` is added to squared gradients.
        rho: decay rate of the moving averages of the squared gradient and of the squared update.
        eps: constant added to both under the square root.
        clip: maximum global norm of the gradient; 0 disables clipping.
    """
    rate = optax.constant_schedule(learning_rate)
    tx = optax.chain(optax.scale(gradient_scale), optax.adadelta(rate, rho=rho, eps=eps))
    # The bound is for the scaled gradient.
    return _clipped(optax.clip_by_global_norm, clip / gradient_scale, tx, rate)


def _clipped(clipping: Callable[[float], Any], bound: float, tx: Any, rate: Any) -> Optimizer:
    """Return the optimizer that clips gradients before a transformation; a bound of 0 does not."""
    tx = optax.chain(clipping(bound), tx) if bound else tx
    return Optimizer(tx.init, tx.update, rate)


METHODS: dict[str, Callable[..., Optimizer]] = {
    "adam": adam,
    "sgd": sgd,
    "adadelta": adadelta,
    "rmsprop": rmsprop,
}


def exponential_decay(peak: float, rate: float, start: int, every: int) -> optax.Schedule:
    """Create a schedule that multiplies the learning rate by `rate` at certain steps.

    Args:
        peak: initial learning rate.
        rate: factor; 1 for a constant learning rate.
        start: number of updates before the first decay.
        every: number of updates between decays.

    Raises:
        UserError: if `every` is not positive.
    """
    if every < 1:
        raise UserError(f"optimizer.decay_every={every} must be at least 1.")

    def learning_rate(count):
        decays = jnp.maximum(0, (count - start) // every + 1)
        return peak * jnp.float32(rate) ** decays

    return learning_rate


def make_schedule(
    schedule: str, peak: float, warmup_steps: int, steps: int | None
) -> optax.Schedule:
    """Create a function that maps the number of past updates to the learning rate.

    The schedule may not be 'exponential'; see `exponential_decay`.
    """
    if schedule not in SCHEDULES:
        raise UserError(
            f"Unknown optimizer.schedule {schedule!r}; choose from {', '.join(SCHEDULES)}."
            + did_you_mean(schedule, SCHEDULES)
        )
    if schedule == "cosine" and not steps:
        raise UserError("optimizer.schedule 'cosine' needs optimizer.steps, its last step.")

    def learning_rate(count):
        step = count + 1.0  # the papers number the first update 1
        warmup = jnp.minimum(1.0, step / max(warmup_steps, 1))
        if schedule == "inverse_sqrt":
            decay = jnp.sqrt(max(warmup_steps, 1) / jnp.maximum(step, warmup_steps))
        elif schedule == "cosine" and steps:
            progress = jnp.clip((step - warmup_steps) / max(steps - warmup_steps, 1), 0.0, 1.0)
            decay = 0.5 * (1.0 + jnp.cos(jnp.pi * progress))
        else:
            decay = jnp.ones(())
        return peak * warmup * decay

    return learning_rate
