"""Masks: true where a query may attend to a key.

A mask is any boolean array that broadcasts to the logits `[*B, T, S]`. A mask of the keys has shape
`[*B, 1, S]` and is never expanded over queries, so its memory is O(S). The mask of packed rows is
`segments`; `SegmentIds` stands for it in O(T + S) memory.
"""

from typing import NamedTuple

import jax.numpy as jnp
from jaxtyping import Array, Bool, Int


class SegmentIds(NamedTuple):
    """Segment ids of packed rows, which stand for the mask `segments(queries, keys)`.

    Attributes:
        queries: segment of each query.
        keys: segment of each key; 0 is padding, which no query attends to.
    """

    queries: Int[Array, "*B T"]
    keys: Int[Array, "*B S"]


def padding(valid: Bool[Array, "*B S"]) -> Bool[Array, "*B 1 S"]:
    """Mask padded keys for every query.

    Args:
        valid: `[*B, S]`, true at real keys.
    """
    return valid[..., None, :]


def causal(queries: int, keys: int, offset: int | Int[Array, ""] = 0) -> Bool[Array, "T S"]:
    """Mask future keys: query t attends to keys 0 .. t + offset.

    Source: Vaswani et al. 2017, sec. 3.2.3.

    Args:
        queries: T.
        keys: S.
        offset: position of the first query among the keys, which is the length of the cache.
    """
    return jnp.arange(keys) <= jnp.arange(queries)[:, None] + offset


def combine(*masks: Bool[Array, "..."] | None) -> Bool[Array, "..."] | None:
    """Logical AND of the masks that are not `None`, or `None` if all masks are."""
    present = [mask for mask in masks if mask is not None]
    if not present:
        return None
    combined = present[0]
    for mask in present[1:]:
        combined = combined & mask
    return combined


def segments(query_ids: Int[Array, "*B T"], key_ids: Int[Array, "*B S"]) -> Bool[Array, "*B T S"]:
    """Restrict queries to keys of their own segment, for packed rows.

    Args:
        query_ids: `[*B, T]`, segment of each query.
        key_ids: `[*B, S]`, segment of each key; 0 is padding, which no query attends to.
    """
    return (query_ids[..., :, None] == key_ids[..., None, :]) & (key_ids > 0)[..., None, :]


def dense(
    mask: Bool[Array, "*#B #T #S"] | SegmentIds | None,
) -> Bool[Array, "*#B #T #S"] | None:
    """Return the mask as an array."""
    return segments(*mask) if isinstance(mask, SegmentIds) else mask
