"""The optimizers and schedules of the papers."""

import inspect
from collections.abc import Callable
from typing import NamedTuple

import jax.numpy as jnp
import optax

from training.errors import UserError, did_you_mean

SCHEDULES = ("constant", "cosine", "inverse_sqrt")


class Optimizer(NamedTuple):
    """An `optax.GradientTransformation` that can also tell its learning rate."""

    init: Callable
    update: Callable
    learning_rate: optax.Schedule


def build(*, method: str, **options) -> Optimizer:
    """Builds what the `optimizer` section of a config asks for.

    Args:
        method: the name of one of the functions below.
        options: what it takes, all of it.

    Raises:
        UserError: for an unknown method, or options that are not its own.
    """
    if method not in METHODS:
        raise UserError(
            f"optimizer.method '{method}' is not one of {', '.join(METHODS)}."
            + did_you_mean(method, METHODS)
        )
    try:
        inspect.signature(METHODS[method]).bind(**options)
    except TypeError as error:
        raise UserError(
            f"optimizer.method '{method}' is given what is not its own: {error}."
        ) from error
    return METHODS[method](**options)


def adam(
    *,
    schedule: str,
    peak: float,
    warmup: int,
    b1: float,
    b2: float,
    eps: float,
    clip: float,
    steps: int | None = None,
) -> Optimizer:
    """Adam (Kingma & Ba 2015), of gradients of a bounded norm.

    Args:
        schedule: what follows the linear warm-up: 'constant', 'cosine' (to zero at `steps`) or
            'inverse_sqrt'. The schedule of "Attention is all you need", eq. 3,
            `d_model**-0.5 * min(step**-0.5, step * warmup**-1.5)`, is 'inverse_sqrt' with
            `peak = (d_model * warmup)**-0.5`.
        peak: the highest learning rate, reached at step `warmup`.
        warmup: steps of linear warm-up; 0 for none.
        b1: decay of the first moment.
        b2: decay of the second moment.
        eps: added to the root of the second moment.
        clip: largest global norm of a gradient; 0 leaves gradients as they are.
        steps: where a cosine ends; read by no other schedule.

    Raises:
        UserError: for an unknown schedule, or a cosine without an end.
    """
    learning_rate = make_schedule(schedule, peak, warmup, steps)
    tx = optax.adam(learning_rate, b1=b1, b2=b2, eps=eps)
    tx = optax.chain(optax.clip_by_global_norm(clip), tx) if clip else tx
    return Optimizer(tx.init, tx.update, learning_rate)


def rmsprop(*, peak: float, decay: float, momentum: float, eps: float, clip: float) -> Optimizer:
    """RMSProp as Graves 2013, eq. 38-41: of the gradient's variance, with momentum.

    Args:
        peak: the learning rate, which stays.
        decay: of the averages of gradient and square.
        momentum: share of the last update in the next.
        eps: added to the variance, under the root.
        clip: each element of a gradient is brought between this and its negative.
    """
    learning_rate = optax.constant_schedule(peak)
    tx = optax.chain(
        optax.clip(clip),
        optax.rmsprop(
            learning_rate, decay=decay, eps=eps, centered=True, momentum=momentum, eps_in_sqrt=True
        ),
    )
    return Optimizer(tx.init, tx.update, learning_rate)


METHODS: dict[str, Callable[..., Optimizer]] = {"adam": adam, "rmsprop": rmsprop}


def make_schedule(schedule: str, peak: float, warmup: int, steps: int | None) -> optax.Schedule:
    """The learning rate as a function of the updates made so far (0 before the first)."""
    if schedule not in SCHEDULES:
        raise UserError(
            f"optimizer.schedule '{schedule}' is not one of {', '.join(SCHEDULES)}."
            + did_you_mean(schedule, SCHEDULES)
        )
    if schedule == "cosine" and not steps:
        raise UserError("optimizer.steps, at which the schedule 'cosine' ends, is not given.")

    def learning_rate(count):
        step = count + 1.0  # the papers count the first update as step 1
        rise = jnp.minimum(1.0, step / max(warmup, 1))
        if schedule == "inverse_sqrt":
            fall = jnp.sqrt(max(warmup, 1) / jnp.maximum(step, warmup))
        elif schedule == "cosine" and steps:
            progress = jnp.clip((step - warmup) / max(steps - warmup, 1), 0.0, 1.0)
            fall = 0.5 * (1.0 + jnp.cos(jnp.pi * progress))
        else:
            fall = jnp.ones(())
        return peak * rise * fall

    return learning_rate
