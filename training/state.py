"""Training state of supervised tasks, and checksums of any state."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Int


class TrainState(NamedTuple):
    """Pytree of everything that a training step reads and updates.

    A task with more state (two networks, batch statistics) defines its own NamedTuple; the loop
    only requires a field `params`.
    """

    step: Int[Array, ""]
    params: Any
    opt_state: Any


@jax.jit
def checksums(tree: Any) -> jax.Array:
    """Compute one uint32 per array, independent of the sharding.

    Sums the bits of each element times an odd number derived from its position, modulo 2^32. Odd
    numbers are invertible, so any change to a single element changes the sum.
    """

    def checksum(x):
        x = x.astype(jnp.uint8) if x.dtype == jnp.bool_ else x
        bits = lax.bitcast_convert_type(x, jnp.dtype(f"uint{8 * x.dtype.itemsize}"))
        position = jnp.zeros(x.shape, jnp.uint32)
        for axis, size in enumerate(x.shape):
            position = position * size + lax.broadcasted_iota(jnp.uint32, x.shape, axis)
        return jnp.sum(bits.astype(jnp.uint32) * (2 * position + 1), dtype=jnp.uint32)

    return jnp.stack([checksum(x) for x in jax.tree.leaves(tree)])
