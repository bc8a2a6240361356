"""Clipping of gradients inside of backpropagation through time.

Source: Graves 2013, "Generating Sequences with Recurrent Neural Networks", sec. 2.1.
"""

from functools import partial

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from models.recurrence import Step


@partial(jax.custom_vjp, nondiff_argnums=(1,))
def clip_cotangent(x: Float[Array, "*S"], limit: float) -> Float[Array, "*S"]:
    """Identity whose VJP clips each component of the cotangent to `[-limit, limit]`.

    In a recurrent step, this bounds the gradients in backpropagation through time. Clipping the
    gradients of the parameters does not, because these may already have overflowed.
    """
    del limit
    return x


clip_cotangent.defvjp(lambda x, limit: (x, None), lambda limit, _, g: (jnp.clip(g, -limit, limit),))


def clip_step(step: Step, limit: float) -> Step:
    """Clip the cotangents of a recurrent step's carry, inputs and products to `[-limit, limit]`.

    Args:
        step: see `recurrence.rnn_scan`.
        limit: bound of the components; with 0 the step is returned unchanged.
    """
    if not limit:
        return step
    clip = partial(clip_cotangent, limit=limit)

    def clipped(matmul, consts, carry, x):
        carry, x = jax.tree.map(clip, (carry, x))
        return step(lambda name, z: clip(matmul(name, z)), consts, carry, x)

    return clipped
