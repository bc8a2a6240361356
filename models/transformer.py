"""The Transformer of Vaswani et al. 2017, "Attention Is All You Need": encoder and decoder."""

from functools import partial
from typing import Literal, NamedTuple, get_args

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float, Int, PRNGKeyArray

from attention import KeyValues, masks
from attention.multihead import Implementation
from models.encoder_decoder import Attention, Segments, Weights
from models.layers import (
    Embedding,
    LayerNorm,
    Remat,
    activation_dtype,
    check_remat,
    dropout,
    param,
    rematerialize,
    shift_right,
    sinusoids,
    split_key,
)
from models.transformer_layers import DecoderLayer, EncoderLayer, Norm

Positions = Literal["sinusoidal", "learned"]


class Memory(NamedTuple):
    """Encoder outputs, projected for the cross-attention of the decoder."""

    layers: list[KeyValues]  # projected once, per decoder layer
    segments: Int[Array, "B S"]  # 0 at padding


class Transformer(nnx.Module):
    """Encoder-decoder with one matrix for all embeddings.

    Args:
        vocabulary: V, tokens shared by both languages. `pad` is token 0, `bos` token 1.
        width: D, d_model of the paper.
        hidden: F, d_ff.
        heads: H.
        key_width: K, d_k; D / H in the paper.
        value_width: V per head, d_v; D / H in the paper.
        encoder_layers, decoder_layers: N.
        dropout: P_drop, on sub-layer outputs and on embeddings plus positions.
        norm: `post` as printed, or `pre` with a final norm on each stack.
        positions: `sinusoidal`, or `learned` vectors for the encoder and the decoder (Table 3, row
            E), initialized from N(0, 1 / D), as in fairseq.
        max_length: number of learned positions; not used with sinusoids.
        dtype: dtype of the activations; weights, norms and softmax stay in float32.
        implementation: see `attention.attend_heads`. Decoding steps use `xla`.
        remat: rematerialization policy of each layer, see `models.layers.rematerialize`.
        key: PRNG key of the weights.

    Raises:
        ValueError: if `norm`, `positions`, `implementation` or `remat` is unknown.
    """

    pad, bos = 0, 1
    samples_attention = False
    supports_packing = True
    has_alignment = True

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
        norm: Norm,
        positions: Positions,
        max_length: int,
        dtype: str,
        implementation: Implementation,
        remat: Remat,
        key: PRNGKeyArray,
    ):
        if positions not in get_args(Positions):
            raise ValueError(f"positions must be 'sinusoidal' or 'learned', not {positions!r}")
        if implementation not in get_args(Implementation):
            known = ", ".join(map(repr, get_args(Implementation)))
            raise ValueError(f"implementation must be one of {known}, not {implementation!r}")
        check_remat(remat)
        key_embedding, key_encoder, key_decoder = jax.random.split(key, 3)
        sizes = (width, heads, key_width, value_width, hidden, norm, dropout)
        self.embedding = Embedding(vocabulary, width, key=key_embedding)
        self.encoder = nnx.List(
            EncoderLayer(*sizes, key=k) for k in jax.random.split(key_encoder, encoder_layers)
        )
        self.decoder = nnx.List(
            DecoderLayer(*sizes, key=k) for k in jax.random.split(key_decoder, decoder_layers)
        )
        # One table for the encoder and one for the decoder.
        tables = jax.random.normal(jax.random.fold_in(key, 3), (2, max_length, width)) * width**-0.5
        self.positions = param(tables, (None, None, "embed")) if positions == "learned" else None
        # In the pre-norm form the output of the last layer is not normalized yet.
        self.encoder_norm = LayerNorm(width) if norm == "pre" else None
        self.decoder_norm = LayerNorm(width) if norm == "pre" else None
        self.rate = dropout
        self.dtype = activation_dtype(dtype)
        self.implementation: Implementation = implementation
        self.remat: Remat = remat

    def encode(
        self,
        source: Int[Array, "B S"],
        key: PRNGKeyArray | None = None,
        segments: Segments | None = None,
    ) -> tuple[Memory, Weights]:
        """Encode the source and project it for the decoder's cross-attention.

        Args:
            source: `[B, S]` tokens, padded with `pad`.
            key: for dropout; `None` in evaluation.
            segments: of packed rows; by default each row is one sentence.

        Returns:
            The memory for `decode` and the attention weights of each layer.
        """
        keys = split_key(key, len(self.encoder) + 1)
        segments = segments or Segments.from_tokens(source, self.pad)
        ids = segments.ids[:, None]  # the same for every head
        mask = masks.SegmentIds(ids, ids)
        x = self._embed(source, self._position_table(0, source.shape[1]), segments, keys[-1])
        weights: Weights = []
        for layer, layer_key in zip(self.encoder, keys, strict=False):
            x, layer_weights = self._apply(layer)(x, mask, key=layer_key)
            weights.append(layer_weights)
        if self.encoder_norm is not None:
            x = self.encoder_norm(x)
        return Memory([layer.cross.project(x) for layer in self.decoder], segments.ids), weights

    def decode(
        self,
        target: Int[Array, "B T"],
        memory: Memory,
        key: PRNGKeyArray | None = None,
        segments: Segments | None = None,
    ) -> tuple[Float[Array, "B T D"], tuple[Weights, Weights]]:
        """Decode all positions in parallel with teacher forcing.

        Position t depends on the targets before t.

        Args:
            target: `[B, T]` tokens, unshifted, padded with `pad`.
            memory: from `encode`.
            key: for dropout; `None` in evaluation.
            segments: of packed rows; by default each row is one sentence.

        Returns:
            The pre-softmax states, and the self- and cross-attention weights of each layer.
        """
        keys = split_key(key, len(self.decoder) + 1)
        segments = segments or Segments.from_tokens(target, self.pad)
        # In packed rows, every segment starts with BOS.
        previous = jnp.where(segments.positions == 0, self.bos, shift_right(target, self.bos))
        ids = segments.ids[:, None]  # the same for every head
        mask = masks.SegmentIds(ids, ids)
        cross_mask = masks.SegmentIds(ids, memory.segments[:, None])
        x = self._embed(previous, self._position_table(1, target.shape[1]), segments, keys[-1])
        weights: Weights = []
        cross: Weights = []
        for layer, layer_memory, layer_key in zip(self.decoder, memory.layers, keys, strict=False):
            x, layer_weights, layer_cross = self._apply(layer)(
                x, layer_memory, mask, cross_mask, key=layer_key
            )
            weights.append(layer_weights)
            cross.append(layer_cross)
        if self.decoder_norm is not None:
            x = self.decoder_norm(x)
        return x, (weights, cross)

    def _apply(self, layer):
        return rematerialize(partial(layer, implementation=self.implementation), self.remat)

    def _embed(self, tokens, position_table, segments, key):
        x = self.embedding(tokens, self.dtype)
        # The lookup precedes the cast, so that gradients are summed in float32.
        positions = position_table[segments.positions].astype(x.dtype)
        return dropout(x + positions, self.rate, key)

    def _position_table(self, stack: int, length: int) -> Float[Array, "T D"]:
        """Vectors of the first positions, of the encoder (0) or the decoder (1).

        Raises:
            ValueError: if there are fewer learned positions.
        """
        if self.positions is None:
            return sinusoids(length, self.embedding.table.shape[1])
        if length > self.positions.shape[1]:
            raise ValueError(f"{length} positions exceed max_length={self.positions.shape[1]}")
        return self.positions[stack, :length]

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
            key: for dropout; `None` in evaluation.

        Returns:
            Logits `[B, T, V]` in float32, and every layer's attention weights.
        """
        key_source, key_target = split_key(key, 2)
        memory, encoder = self.encode(source, key_source)
        states, (decoder, cross) = self.decode(target, memory, key_target)
        return self.embedding.logits(states), Attention(encoder, decoder, cross)

    def attention(self, source: Int[Array, "B S"], target: Int[Array, "B T"]) -> Attention:
        """Attention weights of every layer, computed by the implementation `xla`."""
        plain = nnx.clone(self)
        plain.implementation = "xla"  # the other implementations do not return weights
        return plain(source, target)[1]

    def alignment(
        self, source: Int[Array, "B S"], target: Int[Array, "B T"]
    ) -> Float[Array, "B T S"]:
        """Mean over heads of the last layer's cross-attention at the step that outputs a token."""
        weights = self.attention(source, target).cross[-1]
        assert weights is not None
        return weights.mean(1)

    @property
    def output_embedding(self) -> Float[Array, "V D"]:
        """Output embedding, here shared with the input embeddings."""
        return self.embedding.table[...]

    def init_cache(self, memory: Memory, beams: int, length: int) -> list[KeyValues]:
        """Empty caches for the keys and values of `length` target positions of every beam."""
        batch = memory.segments.shape[0]

        def zeros(kernel):
            return jnp.zeros((batch, beams, kernel.shape[1], length, kernel.shape[2]), self.dtype)

        return [
            KeyValues(zeros(layer.attention.key), zeros(layer.attention.value))
            for layer in self.decoder
        ]

    def decode_step(
        self,
        tokens: Int[Array, "B W"],
        cache: list[KeyValues],
        memory: Memory,
        position: Int[Array, ""],
    ) -> tuple[Float[Array, "B W V"], list[KeyValues]]:
        """Decode one target position of every beam, equal to the same position of the full pass.

        Args:
            tokens: `[B, W]`, the tokens before `position`; `bos` at position 0.
            cache: from `init_cache` or the previous step.
            memory: from `encode` of unpacked sources, one per sentence, shared by its beams.
            position: number of target positions in the cache.

        Returns:
            Logits `[B, W, V]` of the token at `position`, and the extended cache.
        """
        length = cache[0].keys.shape[-2]
        x = self.embedding(tokens, self.dtype)
        x = x + self._position_table(1, length)[position].astype(x.dtype)
        memory_mask = masks.padding(memory.segments > 0)[:, None]
        new_cache = []
        for layer, layer_cache, layer_memory in zip(
            self.decoder, cache, memory.layers, strict=True
        ):
            x, layer_cache = layer.step(x, layer_cache, layer_memory, memory_mask, position)
            new_cache.append(layer_cache)
        if self.decoder_norm is not None:
            x = self.decoder_norm(x)
        return self.embedding.logits(x), new_cache
