"""Base class of the recurrent encoder-decoders of `rnnsearch` and `luong`.

The two decoders differ in the position of attention. In RNNsearch, attention is part of the
recurrence: the context read by state s_{i-1} is an input of state s_i. In Luong's model,
attention follows the recurrence, so without input feeding all target positions attend in one call
after the loop.

Decoder steps work on arrays `[B, W, ...]`, W beams per sentence; in training W = 1.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float, Int, PRNGKeyArray

from attention import affine
from models.attention_layer import (
    AlignmentOutput,
    AttentionLayer,
    ProjectedSource,
    SamplingState,
    sampling_of_all,
)
from models.encoder_decoder import Attention
from models.layers import (
    activation_dtype,
    dropout,
    glorot,
    output_table,
    param,
    shift_right,
    split_key,
)
from models.seq2seq.encoders import make_encoder

Options = Any  # keyword arguments, as a dict or a ConfigDict


class Memory(NamedTuple):
    """Encoder outputs that the decoder reads."""

    source: ProjectedSource
    initial_state: Float[Array, "B _"]  # initial states of all decoder layers, concatenated
    sampling: SamplingState | None  # `None` if no alignments are sampled


class Seq2Seq(nnx.Module):
    """Embeddings, encoder, attention layer and output embedding of both decoders.

    Args:
        vocabulary: V, tokens shared by both sides. `pad` is token 0, `bos` token 1.
        embedding: width of the token embeddings.
        hidden: H, width of the decoder states.
        initial_width: width of the concatenated initial states of all decoder layers.
        output_width: width of the pre-softmax states.
        encoder: see `models.seq2seq.encoders.make_encoder`; `width` is M.
        attention: see `models.attention_layer.AttentionLayer`.
        dropout: rate of dropout on embeddings, between layers and on the pre-softmax states.
        dtype: dtype of the activations; weights and softmax stay in float32.
        key: PRNG key of the weights.

    Raises:
        ValueError: if a name is unknown or widths are incompatible.
    """

    pad, bos = 0, 1
    supports_packing = False

    def __init__(
        self,
        *,
        vocabulary: int,
        embedding: int,
        hidden: int,
        initial_width: int,
        output_width: int,
        encoder: Options,
        attention: Options,
        dropout: float,
        dtype: str,
        key: PRNGKeyArray,
    ):
        v, e, m = vocabulary, embedding, encoder["width"]
        keys = jax.random.split(key, 6)
        embeddings = jax.random.normal(keys[0], (2, v, e))
        self.source_embedding = param(embeddings[0], ("vocab", "embed"))
        self.target_embedding = param(embeddings[1], ("vocab", "embed"))
        self.output = param(output_table(keys[1], v, output_width), ("vocab", "embed"))
        self.encoder = make_encoder(e, rate=dropout, key=keys[2], **encoder)
        self.initial = param(glorot(keys[3], (m, initial_width), m, hidden), ("embed", "mlp"))
        self.initial_bias = param(jnp.zeros(initial_width), ("mlp",))
        self.attention_layer = AttentionLayer(hidden, m, key=keys[4], **attention)
        self.rate = dropout
        self.dtype = activation_dtype(dtype)

    @property
    def samples_attention(self) -> bool:
        """Whether the alignment is `hard`, so that training needs the REINFORCE loss term."""
        return self.attention_layer.alignment == "hard"

    @property
    def has_alignment(self) -> bool:
        """Whether the decoder attends to source positions, unlike the control without attention."""
        return self.attention_layer.alignment != "none"

    @property
    def output_embedding(self) -> Float[Array, "V D"]:
        """Output embedding: the logits are `states @ output_embedding.T`."""
        return self.output[...]

    def encode(
        self, source: Int[Array, "B S"], key: PRNGKeyArray | None = None
    ) -> tuple[Memory, list]:
        """Encode the source and project the keys of the attention layer.

        Args:
            source: `[B, S]` tokens, padded with `pad`.
            key: PRNG key for dropout and sampled alignments; `None` in evaluation.

        Returns:
            The memory for `decode`, and no encoder attention weights.
        """
        key_input, key_encoder, key_sampling = split_key(key, 3)
        valid = source != self.pad
        x = self._embed(self.source_embedding, source, key_input)
        annotations, summary = self.encoder(x, valid, key_encoder)
        initial_state = jnp.tanh(affine(summary, self.initial[...], self.initial_bias[...]))
        projected = self.attention_layer.project(annotations, summary, valid)
        sampling = self.attention_layer.init_sampling(key_sampling, len(source))
        return Memory(projected, initial_state, sampling), []

    def with_sampling(self, memory: Memory, key: PRNGKeyArray) -> Memory:
        """Return the memory with alignments sampled for every sentence, also in evaluation."""
        return memory._replace(sampling=sampling_of_all(key, len(memory.initial_state)))

    def attention(self, source: Int[Array, "B S"], target: Int[Array, "B T"]) -> Attention:
        """Return the attention weights of a full pass in evaluation mode."""
        if not self.has_alignment:
            return Attention([], [], [])
        return Attention([], [], [self._weights_over_source(source, target)[:, None]])

    def alignment(
        self, source: Int[Array, "B S"], target: Int[Array, "B T"]
    ) -> Float[Array, "B T S"]:
        """Return the weights of the step that outputs each target token."""
        return self._weights_over_source(source, target)

    def _weights_over_source(self, source, target):
        memory, _ = self.encode(source)
        _, alignment = self.decode(target, memory)
        return self.attention_layer.scatter(alignment, source.shape[1])

    def decode(
        self, target: Int[Array, "B T"], memory: Memory, key: PRNGKeyArray | None = None
    ) -> tuple[Float[Array, "B T D"], AlignmentOutput]:
        """Decode all positions with teacher forcing: position t depends on the targets before t.

        Args:
            target: `[B, T]` tokens, unshifted, padded with `pad`.
            memory: from `encode`.
            key: PRNG key for dropout; `None` in evaluation.

        Returns:
            The pre-softmax states and the alignment.
        """
        raise NotImplementedError

    def _embed(self, embedding, tokens, key):
        # The lookup precedes the cast, so that gradients of repeated tokens are summed in float32.
        return dropout(embedding[...][tokens].astype(self.dtype), self.rate, key)

    def _embed_shifted(self, target, key):
        return self._embed(self.target_embedding, shift_right(target, self.bos), key)
