"""Multi-head attention (Vaswani et al. 2017, sec. 3.2.2), in separate steps for use with a cache.

    project_heads -> attend_heads -> merge_heads

The head axis precedes the position axis, `[*B, H, T, K]`, so that functions of `[*B, T, K]` arrays
also work on heads. The caller projects keys and values once.
"""

from typing import Literal, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Bool, Float, Int

from attention import blockwise
from attention.attend import attend
from attention.masks import SegmentIds, combine, dense
from attention.masks import causal as causal_mask

Implementation = Literal["xla", "cudnn", "blockwise"]


class KeyValues(NamedTuple):
    """Projected keys and values of one attention layer, or a partially filled cache of them.

    With several heads, the last of the batch axes is the head axis.
    """

    keys: Float[Array, "*B S K"]
    values: Float[Array, "*B S V"]


def project_heads(
    x: Float[Array, "*B S D"], kernel: Float[Array, "D H K"], bias: Float[Array, "H K"]
) -> Float[Array, "*B H S K"]:
    """Project the input for every head h, `x W_h + b_h`."""
    d, h, k = kernel.shape
    return split_heads(affine(x, kernel.reshape(d, h * k), bias.reshape(h * k)), h)


def merge_heads(
    contexts: Float[Array, "*B H T V"], kernel: Float[Array, "H V D"], bias: Float[Array, " D"]
) -> Float[Array, "*B T D"]:
    """Project the concatenated heads, `Concat(head_1, ..., head_H) W^O + b`."""
    h, v, d = kernel.shape
    return affine(concatenate_heads(contexts), kernel.reshape(h * v, d), bias)


def attend_heads(
    queries: Float[Array, "*B H T K"],
    memory: KeyValues,
    *,
    mask: Bool[Array, "*#BH #T #S"] | SegmentIds | None = None,
    causal: bool = False,
    implementation: Implementation = "xla",
) -> tuple[Float[Array, "*B H T V"], Float[Array, "*B H T S"] | None]:
    """Scaled dot-product attention in every head.

    Args:
        queries: `[*B, H, T, K]`.
        memory: keys `[*B, H, S, K]` and values `[*B, H, S, V]`.
        mask: broadcastable to `[*B, H, T, S]`, true where a query may attend; or the `SegmentIds`
            of packed rows, with an axis of heads or of one.
        causal: whether query t attends to keys 0 .. t only.
        implementation: `xla`, with explicit weights; `blockwise`, in O(T + S) memory; `cudnn`, the
            fused kernel of NVIDIA GPUs (16-bit types and one batch axis only; K = V, a multiple of
            8, at most 128, or 256 from the Hopper generation on).

    Returns:
        Contexts `[*B, H, T, V]` and weights `[*B, H, T, S]`; the weights are `None` for
        implementations that never materialize them.

    Raises:
        ValueError: if the implementation is unknown.
    """
    keys, values = memory
    if implementation == "blockwise":
        return blockwise.attend(queries, keys, values, mask=mask, causal=causal), None
    mask = dense(mask)
    if implementation == "xla":
        future = causal_mask(queries.shape[-2], keys.shape[-2]) if causal else None
        return attend(queries, keys, values, mask=combine(mask, future))
    if implementation == "cudnn":
        contexts = jax.nn.dot_product_attention(
            jnp.swapaxes(queries, 1, 2),
            jnp.swapaxes(keys, 1, 2),
            jnp.swapaxes(values, 1, 2),
            mask=mask,
            is_causal=causal,
            implementation="cudnn",
        )
        contexts = jnp.swapaxes(contexts, 1, 2)
        if mask is not None:  # cuDNN returns the mean of the values for a fully masked query
            allowed = mask & causal_mask(queries.shape[-2], keys.shape[-2]) if causal else mask
            contexts *= allowed.any(-1, keepdims=True)
        return contexts, None
    raise ValueError(
        f"attention implementation {implementation!r} is unknown; use 'xla', 'cudnn' or 'blockwise'"
    )


def extend(cache: KeyValues, new: KeyValues, position: Int[Array, ""] | int) -> KeyValues:
    """Write the keys and values of new positions into a cache, starting at `position`."""
    return KeyValues(
        *(
            lax.dynamic_update_slice_in_dim(old, x.astype(old.dtype), position, old.ndim - 2)
            for old, x in zip(cache, new, strict=True)
        )
    )


def split_heads(projected: Float[Array, "*B S F"], heads: int) -> Float[Array, "*B H S K"]:
    """Split the channels into heads."""
    return jnp.swapaxes(projected.reshape(*projected.shape[:-1], heads, -1), -2, -3)


def concatenate_heads(contexts: Float[Array, "*B H T V"]) -> Float[Array, "*B T F"]:
    """Concatenated heads, `Concat(head_1, ..., head_H)`; the inverse of `split_heads`."""
    contexts = jnp.swapaxes(contexts, -2, -3)
    return contexts.reshape(*contexts.shape[:-2], -1)


def affine(
    x: Float[Array, "*B D"], kernel: Float[Array, "D F"], bias: Float[Array, " F"] | None = None
) -> Float[Array, "*B F"]:
    """Affine map `x W + b` at every position, in the dtype of `x`.

    The gradient of b is summed in the dtype of b.

    Batch axes are flattened to one matrix product: XLA's CPU backend lowers a contraction over
    several axes, such as the gradient of W, to copies and small products that take up to four times
    as long.
    """
    product = x.reshape(-1, x.shape[-1]) @ kernel.astype(x.dtype)
    if bias is not None:
        product = (product + bias).astype(x.dtype)
    return product.reshape(*x.shape[:-1], kernel.shape[-1])
