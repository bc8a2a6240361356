"""Masks: true where a query may look at a key.

A mask is any boolean array that broadcasts to the logits `[*B, T, S]`. One that depends on the keys
alone stays `[B, 1, S]`, so it costs no more memory than the keys do.
"""

import jax.numpy as jnp
from jaxtyping import Array, Bool, Int


def padding(valid: Bool[Array, "*B S"]) -> Bool[Array, "*B 1 S"]:
    """Hides padded keys from every query.

    Args:
        valid: `[*B, S]`, true at real keys.
    """
    return valid[..., None, :]


def causal(queries: int, keys: int, offset: int | Int[Array, ""] = 0) -> Bool[Array, "T S"]:
    """Hides the future: query t sees the keys 0 .. t + offset (Vaswani et al. 2017, sec. 3.2.3).

    Args:
        queries: T, how many queries.
        keys: S, how many keys.
        offset: position of the first query among the keys; what a cache already holds.
    """
    return jnp.arange(keys) <= jnp.arange(queries)[:, None] + offset


def combine(*masks: Bool[Array, "..."] | None) -> Bool[Array, "..."] | None:
    """What all masks allow; masks that are `None` allow everything."""
    present = [mask for mask in masks if mask is not None]
    if not present:
        return None
    combined = present[0]
    for mask in present[1:]:
        combined = combined & mask
    return combined
