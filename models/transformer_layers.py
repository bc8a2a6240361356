"""Layers of the Transformer (Vaswani et al. 2017, sec. 3.1 and 3.3)."""

from typing import Literal, get_args

import jax
from flax import nnx
from jaxtyping import Array, Bool, Float, Int, PRNGKeyArray

from attention import KeyValues, extend, masks
from attention.masks import SegmentIds
from attention.multihead import Implementation
from models.layers import FeedForward, LayerNorm, MultiHeadAttention, dropout, split_key

Norm = Literal["post", "pre"]


class Residual(nnx.Module):
    """Residual connection and layer normalization around a sub-layer.

    Post-norm is `LayerNorm(x + Dropout(Sublayer(x)))` as printed (sec. 3.1 and 5.4). Pre-norm is
    `x + Dropout(Sublayer(LayerNorm(x)))`, which makes deep stacks easier to train.
    """

    def __init__(self, width: int, norm: Norm, rate: float):
        if norm not in get_args(Norm):
            raise ValueError(f"norm must be 'post' or 'pre', not {norm!r}")
        self.layer_norm = LayerNorm(width)
        self.norm = norm
        self.rate = rate

    def input(self, x: Float[Array, "*B D"]) -> Float[Array, "*B D"]:
        """Input of the sub-layer."""
        return self.layer_norm(x) if self.norm == "pre" else x

    def output(
        self, x: Float[Array, "*B D"], update: Float[Array, "*B D"], key: PRNGKeyArray | None
    ) -> Float[Array, "*B D"]:
        """Sum of `x` and the sub-layer's output, normalized in the post-norm form."""
        x = x + dropout(update, self.rate, key)
        return x if self.norm == "pre" else self.layer_norm(x)


class EncoderLayer(nnx.Module):
    """Self-attention, then a feed-forward network (sec. 3.1)."""

    def __init__(self, width, heads, key_width, value_width, hidden, norm, rate, *, key):
        key_attention, key_hidden = jax.random.split(key)
        self.attention = MultiHeadAttention(width, heads, key_width, value_width, key=key_attention)
        self.attention_residual = Residual(width, norm, rate)
        self.feed_forward = FeedForward(width, hidden, key=key_hidden)
        self.feed_forward_residual = Residual(width, norm, rate)

    def __call__(
        self,
        x: Float[Array, "B S D"],
        mask: Bool[Array, "B #H #S S"] | SegmentIds,
        implementation: Implementation = "xla",
        key: PRNGKeyArray | None = None,
    ) -> tuple[Float[Array, "B S D"], Float[Array, "B H S S"] | None]:
        """Return the layer's output and its attention weights."""
        keys = split_key(key, 2)

        y = self.attention_residual.input(x)
        update, weights = self.attention(
            y, self.attention.project(y), mask=mask, implementation=implementation
        )
        x = self.attention_residual.output(x, update, keys[0])

        update = self.feed_forward(self.feed_forward_residual.input(x))
        return self.feed_forward_residual.output(x, update, keys[1]), weights


class DecoderLayer(nnx.Module):
    """Causal self-attention, attention to the source, then a feed-forward network (sec. 3.1)."""

    def __init__(self, width, heads, key_width, value_width, hidden, norm, rate, *, key):
        keys = jax.random.split(key, 3)
        sizes = (width, heads, key_width, value_width)
        self.attention = MultiHeadAttention(*sizes, key=keys[0])
        self.attention_residual = Residual(width, norm, rate)
        self.cross = MultiHeadAttention(*sizes, key=keys[1])
        self.cross_residual = Residual(width, norm, rate)
        self.feed_forward = FeedForward(width, hidden, key=keys[2])
        self.feed_forward_residual = Residual(width, norm, rate)

    def __call__(
        self,
        x: Float[Array, "B T D"],
        memory: KeyValues,
        mask: SegmentIds,
        cross_mask: SegmentIds,
        implementation: Implementation = "xla",
        key: PRNGKeyArray | None = None,
    ) -> tuple[
        Float[Array, "B T D"], Float[Array, "B H T T"] | None, Float[Array, "B H T S"] | None
    ]:
        """Return the layer's output, its self-attention and its cross-attention weights."""
        keys = split_key(key, 3)

        y = self.attention_residual.input(x)
        update, weights = self.attention(
            y, self.attention.project(y), mask=mask, causal=True, implementation=implementation
        )
        x = self.attention_residual.output(x, update, keys[0])

        y = self.cross_residual.input(x)
        update, cross_weights = self.cross(
            y, memory, mask=cross_mask, implementation=implementation
        )
        x = self.cross_residual.output(x, update, keys[1])

        update = self.feed_forward(self.feed_forward_residual.input(x))
        x = self.feed_forward_residual.output(x, update, keys[2])
        return x, weights, cross_weights

    def step(
        self,
        x: Float[Array, "B W D"],
        cache: KeyValues,
        memory: KeyValues,
        memory_mask: Bool[Array, "B 1 1 S"],
        position: Int[Array, ""],
    ) -> tuple[Float[Array, "B W D"], KeyValues]:
        """Compute one position of every beam, with a cache `[B, W, H, T, K]` of earlier positions.

        In the cross-attention the W beams are W queries of one sentence, so the keys of the source
        are stored once per sentence.
        """
        y = self.attention_residual.input(x)[..., None, :]
        cache = extend(cache, self.attention.project(y), position)
        past = masks.causal(1, cache.keys.shape[-2], position)
        update, _ = self.attention(y, cache, mask=past)
        x = self.attention_residual.output(x, update[..., 0, :], None)

        update, _ = self.cross(self.cross_residual.input(x), memory, mask=memory_mask)
        x = self.cross_residual.output(x, update, None)

        update = self.feed_forward(self.feed_forward_residual.input(x))
        return self.feed_forward_residual.output(x, update, None), cache
