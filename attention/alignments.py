"""Alignments: from logits to weights over the keys.

Every alignment maps logits `[*B, T, S]` and an optional mask to weights of the same shape. A row in
which nothing may be attended to gets weights of zero, never NaN.
"""

from typing import Protocol, runtime_checkable

import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Bool, Float


@runtime_checkable
class Alignment(Protocol):
    """The signature all alignments share."""

    def __call__(
        self, logits: Float[Array, "*B T S"], mask: Bool[Array, "*#B #T #S"] | None = None
    ) -> Float[Array, "*B T S"]: ...


def soft(
    logits: Float[Array, "*B T S"], mask: Bool[Array, "*#B #T #S"] | None = None
) -> Float[Array, "*B T S"]:
    """Soft, global alignment: a softmax over all keys that the mask leaves.

    Source: Bahdanau et al. 2015, eq. 6; Vaswani et al. 2017, eq. 1.

    Args:
        logits: `[*B, T, S]`.
        mask: broadcastable to the logits, true where a query may look.

    Returns:
        Weights `[*B, T, S]` in float32. Each row sums to one, or is zero if fully masked.
    """
    logits = logits.astype(jnp.float32)
    if mask is not None:
        logits = jnp.where(mask, logits, -jnp.inf)
    peak = lax.stop_gradient(jnp.max(logits, axis=-1, keepdims=True))
    weights = jnp.exp(logits - jnp.where(jnp.isneginf(peak), 0.0, peak))
    total = jnp.sum(weights, axis=-1, keepdims=True)
    return weights / jnp.where(total == 0.0, 1.0, total)
