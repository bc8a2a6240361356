"""The Transformer of Vaswani et al. 2017, "Attention Is All You Need": encoder and decoder."""

from typing import Literal, NamedTuple, get_args

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Bool, Float, Int, PRNGKeyArray

from attention import KeyValues, affine, attend_heads, extend, masks
from attention.multihead import Implementation, concatenate
from models.encoder_decoder import Attention, Weights
from models.layers import (
    Embedding,
    FeedForward,
    LayerNorm,
    MultiHeadAttention,
    dropout,
    sinusoids,
    split_key,
)
from models.packing import Rows


class Memory(NamedTuple):
    """What the decoder reads of the source, projected once: per layer, and who is padding."""

    layers: list[KeyValues]
    mask: Bool[Array, "B 1 1 S"]


class Residual(nnx.Module):
    """The norm around a sub-layer: `LayerNorm(x + Dropout(f(x)))` as printed (sec. 5.4).

    Or the pre-norm variant `x + Dropout(f(LayerNorm(x)))`, which trains deep stacks more easily.
    """

    def __init__(self, width: int, norm: Literal["post", "pre"], rate: float):
        if norm not in ("post", "pre"):
            raise ValueError(f"norm must be 'post' or 'pre', not {norm!r}")
        self.layer_norm = LayerNorm(width)
        self.norm = norm
        self.rate = rate

    def before(self, x):
        """What the sub-layer sees."""
        return self.layer_norm(x) if self.norm == "pre" else x

    def after(self, x, update, key, positions=None):
        """What the next sub-layer gets."""
        x = x + dropout(update, self.rate, key, positions)
        return x if self.norm == "pre" else self.layer_norm(x)


class EncoderLayer(nnx.Module):
    """Self-attention, then feed-forward."""

    def __init__(self, width, heads, key_width, value_width, hidden, norm, rate, *, key):
        key_attention, key_hidden = jax.random.split(key)
        self.attention = MultiHeadAttention(width, heads, key_width, value_width, key=key_attention)
        self.attention_residual = Residual(width, norm, rate)
        self.feed_forward = FeedForward(width, hidden, key=key_hidden)
        self.feed_forward_residual = Residual(width, norm, rate)

    def __call__(self, x: Float[Array, "N D"], rows: Rows, mask, implementation, key):
        keys = split_key(key, 2)
        names = ("query", "key", "value")
        into = self.attention.side_by_side(*names)
        projected = rows.map(lambda x, _: affine(self.attention_residual.before(x), *into), x)
        queries, *memory = self.attention.heads_of(rows.unpack(projected), *names)
        contexts, weights = attend_heads(
            queries, KeyValues(*memory), mask=mask, implementation=implementation
        )

        def rest(x, contexts, positions):
            update = self.attention.merge(contexts)
            x = self.attention_residual.after(x, update, keys[0], positions)
            update = self.feed_forward(self.feed_forward_residual.before(x))
            return self.feed_forward_residual.after(x, update, keys[1], positions)

        return rows.map(rest, x, rows.pack(concatenate(contexts))), weights


class DecoderLayer(nnx.Module):
    """Causal self-attention, attention to the source, then feed-forward."""

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
        self, x: Float[Array, "N D"], rows: Rows, memory: KeyValues, mask, implementation, key
    ):
        keys = split_key(key, 3)
        names = ("query", "key", "value")
        into = self.attention.side_by_side(*names)
        projected = rows.map(lambda x, _: affine(self.attention_residual.before(x), *into), x)
        queries, *own = self.attention.heads_of(rows.unpack(projected), *names)
        contexts, weights = attend_heads(
            queries, KeyValues(*own), causal=True, implementation=implementation
        )
        ask = self.cross.side_by_side("query")

        def between(x, contexts, positions):
            update = self.attention.merge(contexts)
            x = self.attention_residual.after(x, update, keys[0], positions)
            return x, affine(self.cross_residual.before(x), *ask)

        x, queries = rows.map(between, x, rows.pack(concatenate(contexts)))
        (queries,) = self.cross.heads_of(rows.unpack(queries), "query")
        contexts, cross_weights = attend_heads(
            queries, memory, mask=mask, implementation=implementation
        )

        def rest(x, contexts, positions):
            x = self.cross_residual.after(x, self.cross.merge(contexts), keys[1], positions)
            update = self.feed_forward(self.feed_forward_residual.before(x))
            return self.feed_forward_residual.after(x, update, keys[2], positions)

        return rows.map(rest, x, rows.pack(concatenate(contexts))), weights, cross_weights

    def step(self, x, cache: KeyValues, memory: KeyValues, memory_mask, position):
        """One new position of every beam: `x` is `[B, W, D]`, the cache `[B, W, H, T, K]`.

        To the source the W beams are W queries of one sentence, so its keys are held once.
        """
        inner = self.attention_residual.before(x)[..., None, :]
        cache = extend(cache, self.attention.project(inner), position)
        past = masks.causal(1, cache.keys.shape[-2], position)
        update, _ = self.attention(inner, cache, mask=past)
        x = self.attention_residual.after(x, update[..., 0, :], None)
        update, _ = self.cross(self.cross_residual.before(x), memory, mask=memory_mask)
        x = self.cross_residual.after(x, update, None)
        update = self.feed_forward(self.feed_forward_residual.before(x))
        return self.feed_forward_residual.after(x, update, None), cache


class Transformer(nnx.Module):
    """Encoder–decoder with sinusoidal positions and one matrix for all embeddings.

    Args:
        vocabulary: V, tokens shared by both languages. `pad` is token 0, `bos` token 1.
        width: D, d_model of the paper.
        hidden: F, d_ff.
        heads: H.
        key_width: K, d_k; D / H in the paper.
        value_width: V per head, d_v; D / H in the paper.
        encoder_layers, decoder_layers: N.
        dropout: P_drop, on sub-layer outputs and on embeddings plus positions.
        norm: `post` as printed, or `pre` with a last norm on each stack.
        dtype: of the activations; weights, norms and softmax stay in float32.
        implementation: of attention; see `attention.attend_heads`. Decoding steps use `xla`.
        block: positions that are worked on at a time, padding left out, which CPUs like; 0 for
            all at once, which accelerators do. See `models.packing`.
        key: makes the weights.

    Raises:
        ValueError: if `norm` or `implementation` is unknown.
    """

    pad, bos = 0, 1
    draws = False

    def __init__(
        self,
        *,
        vocabulary: int,
        width: int,
        hidden: int,
        heads: int,
        key_width: int,
        value_width: int,
        encoder_layers: int,
        decoder_layers: int,
        dropout: float,
        norm: Literal["post", "pre"],
        dtype: str,
        implementation: Implementation,
        block: int,
        key: PRNGKeyArray,
    ):
        if implementation not in get_args(Implementation):
            known = ", ".join(map(repr, get_args(Implementation)))
            raise ValueError(f"implementation must be one of {known}, not {implementation!r}")
        key_embedding, key_encoder, key_decoder = jax.random.split(key, 3)
        sizes = (width, heads, key_width, value_width, hidden, norm, dropout)
        self.embedding = Embedding(vocabulary, width, key=key_embedding)
        self.encoder = nnx.List(
            EncoderLayer(*sizes, key=k) for k in jax.random.split(key_encoder, encoder_layers)
        )
        self.decoder = nnx.List(
            DecoderLayer(*sizes, key=k) for k in jax.random.split(key_decoder, decoder_layers)
        )
        # In the pre-norm form nothing has normalised the last layer's output yet.
        self.encoder_norm = LayerNorm(width) if norm == "pre" else None
        self.decoder_norm = LayerNorm(width) if norm == "pre" else None
        self.rate = dropout
        self.dtype = jnp.dtype(dtype)
        self.implementation: Implementation = implementation
        self.block = block

    def _embed(self, tokens, rows, key):
        x = self.embedding(rows.pack(tokens), self.dtype)
        length = tokens.shape[-1]
        positions = sinusoids(length, x.shape[-1]).astype(x.dtype)
        return dropout(x + positions[rows.order % length], self.rate, key, rows.order)

    def encode(
        self, source: Int[Array, "B S"], key: PRNGKeyArray | None = None
    ) -> tuple[Memory, Weights]:
        """Reads the source into what the decoder attends to.

        Args:
            source: `[B, S]` tokens, padded with `pad`.
            key: for dropout; none in evaluation.
        """
        keys = split_key(key, len(self.encoder) + 1)
        rows = Rows.of(source != self.pad, self.block)
        mask = masks.padding(rows.valid)[:, None]
        x = self._embed(source, rows, keys[-1])
        weights: Weights = []
        for layer, layer_key in zip(self.encoder, keys, strict=False):
            x, layer_weights = layer(x, rows, mask, self.implementation, layer_key)
            weights.append(layer_weights)
        if self.encoder_norm is not None:
            x = self.encoder_norm(x)
        return Memory(self._memories(x, rows), mask), weights

    def _memories(self, x, rows):
        """Keys and values of the source for every layer of the decoder, in one product."""
        names = ("key", "value")
        into = [layer.cross.side_by_side(*names) for layer in self.decoder]
        kernel, bias = (jnp.concatenate(parts, axis=-1) for parts in zip(*into, strict=True))
        projected = rows.unpack(rows.map(lambda x, _: affine(x, kernel, bias), x))
        parts = jnp.split(projected, len(self.decoder), axis=-1)
        return [
            KeyValues(*layer.cross.heads_of(part, *names))
            for layer, part in zip(self.decoder, parts, strict=True)
        ]

    def decode(
        self, target: Int[Array, "B T"], memory: Memory, key: PRNGKeyArray | None = None
    ) -> tuple[Float[Array, "B T D"], tuple[Weights, Weights]]:
        """All positions at once, teacher-forced: position t sees the targets before t.

        Returns:
            The states under the softmax, zeros where the target is padding, and the self- and
            cross-attention weights.
        """
        keys = split_key(key, len(self.decoder) + 1)
        shifted = jnp.pad(target[:, :-1], ((0, 0), (1, 0)), constant_values=self.bos)
        rows = Rows.of(target != self.pad, self.block)
        x = self._embed(shifted, rows, keys[-1])
        weights: Weights = []
        cross: Weights = []
        for layer, layer_memory, layer_key in zip(self.decoder, memory.layers, keys, strict=False):
            x, layer_weights, layer_cross = layer(
                x, rows, layer_memory, memory.mask, self.implementation, layer_key
            )
            weights.append(layer_weights)
            cross.append(layer_cross)
        if self.decoder_norm is not None:
            x = self.decoder_norm(x)
        states = jnp.where(rows.valid[..., None], rows.unpack(x), 0)
        return states, (weights, cross)

    def __call__(
        self,
        source: Int[Array, "B S"],
        target: Int[Array, "B T"],
        key: PRNGKeyArray | None = None,
    ) -> tuple[Float[Array, "B T V"], Attention]:
        """Logits of each target token given the source and the targets before it.

        Args:
            source: `[B, S]` tokens, padded with `pad`.
            target: `[B, T]` tokens, unshifted, padded with `pad`.
            key: for dropout; none in evaluation.

        Returns:
            Logits `[B, T, V]` in float32, and every layer's attention weights.
        """
        key_source, key_target = split_key(key, 2)
        memory, encoder = self.encode(source, key_source)
        states, (decoder, cross) = self.decode(target, memory, key_target)
        return self.embedding.logits(states), Attention(encoder, decoder, cross)

    def attention(self, source: Int[Array, "B S"], target: Int[Array, "B T"]) -> Attention:
        """Every layer's weights, whichever implementation is used in training."""
        plain = nnx.clone(self)
        plain.implementation = "xla"  # the only one that holds weights to look at
        return plain(source, target)[1]

    @property
    def output_table(self) -> Float[Array, "V D"]:
        """The rows under the softmax, here those of the embedding."""
        return self.embedding.table[...]

    def init_cache(self, memory: Memory, beams: int, length: int) -> list[KeyValues]:
        """Room for the keys and values of `length` target positions of every beam."""
        batch = memory.mask.shape[0]

        def room(kernel):
            return jnp.zeros((batch, beams, kernel.shape[1], length, kernel.shape[2]), self.dtype)

        return [
            KeyValues(room(layer.attention.key), room(layer.attention.value))
            for layer in self.decoder
        ]

    def decode_step(
        self,
        tokens: Int[Array, "B W"],
        cache: list[KeyValues],
        memory: Memory,
        position: Int[Array, ""],
    ) -> tuple[Float[Array, "B W V"], list[KeyValues]]:
        """One target position of every beam; equal to that position of the full pass.

        Args:
            tokens: `[B, W]`, the tokens before `position`; `bos` at position 0.
            cache: from `init_cache` or the previous step.
            memory: of `encode`, held once per sentence and shared by its beams.
            position: how many target positions the cache holds.

        Returns:
            Logits `[B, W, V]` of the token at `position`, and the cache with it included.
        """
        length = cache[0].keys.shape[-2]
        x = self.embedding(tokens, self.dtype)
        x = x + sinusoids(length, x.shape[-1])[position].astype(x.dtype)
        new_cache = []
        for layer, layer_cache, layer_memory in zip(
            self.decoder, cache, memory.layers, strict=True
        ):
            x, layer_cache = layer.step(x, layer_cache, layer_memory, memory.mask, position)
            new_cache.append(layer_cache)
        if self.decoder_norm is not None:
            x = self.decoder_norm(x)
        return self.embedding.logits(x), new_cache
