"""What recurrent encoder–decoders with attention share; of its kinds, see `rnnsearch` and `luong`.

They differ in where attention stands. In RNNsearch a state is made of what the state before it
attended to, so attention is part of the recurrence. Luong's states attend once they are made; where
nothing of it is fed back, all positions attend in one call.

A decoder's step works on `[B, W, ...]`, W beams of each sentence; training has one.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float, Int, PRNGKeyArray

from attention import affine
from models.encoder_decoder import Attention
from models.layers import dropout, glorot, param, split_key
from models.seq2seq.attention_layer import Aligned, Draw, Mechanism, Source
from models.seq2seq.encoders import make_encoder

Options = Any  # keyword arguments by name, in a dict or what a config has in its place


class Memory(NamedTuple):
    """What the decoder reads of the source."""

    source: Source
    start: Float[Array, "B _"]  # its states before the first token
    draw: Draw | None  # what hard attention will look at


class Seq2Seq(nnx.Module):
    """What both decoders share: embeddings, the encoder, the mechanism and the output table.

    Args:
        vocabulary: V, tokens shared by both sides. `pad` is token 0, `bos` token 1.
        embedding: width of an embedded token.
        hidden: H, width of the decoder's states.
        start: width of all of the decoder's states at once.
        output: width of what stands under the softmax.
        encoder: see `models.seq2seq.encoders.make_encoder`; its `width` is M, that of the annotations.
        attention: see `models.seq2seq.attention_layer.Mechanism`.
        dropout: on embeddings, between layers, and under the softmax.
        dtype: of the activations; weights and softmax stay in float32.
        key: makes the weights.

    Raises:
        ValueError: an unknown name, or widths that do not fit.
    """

    pad, bos = 0, 1

    def __init__(
        self,
        *,
        vocabulary: int,
        embedding: int,
        hidden: int,
        start: int,
        output: int,
        encoder: Options,
        attention: Options,
        dropout: float,
        dtype: str,
        key: PRNGKeyArray,
    ):
        v, e, m = vocabulary, embedding, encoder["width"]
        keys = jax.random.split(key, 6)
        tables = 0.1 * jax.random.normal(keys[0], (2, v, e))
        self.source_table = param(tables[0], ("vocab", "embed"))
        self.target_table = param(tables[1], ("vocab", "embed"))
        self.output = param(glorot(keys[1], (v, output), output, v), ("vocab", "embed"))
        self.encoder = make_encoder(e, rate=dropout, key=keys[2], **encoder)
        self.start = param(glorot(keys[3], (m, start), m, hidden), ("embed", "mlp"))
        self.start_bias = param(jnp.zeros(start), ("mlp",))
        self.mechanism = Mechanism(hidden, m, key=keys[4], **attention)
        self.rate = dropout
        self.dtype = jnp.dtype(dtype)

    @property
    def draws(self) -> bool:
        """Whether training draws what is attended to, and so needs the score function."""
        return self.mechanism.alignment == "hard"

    @property
    def output_table(self) -> Float[Array, "V D"]:
        """The rows under the softmax."""
        return self.output[...]

    def encode(
        self, source: Int[Array, "B S"], key: PRNGKeyArray | None = None
    ) -> tuple[Memory, list]:
        """Reads the source into what the decoder attends to, keys projected.

        Args:
            source: `[B, S]` tokens, padded with `pad`.
            key: for dropout, and for what is drawn; none in evaluation.
        """
        key_input, key_encoder, key_draw = split_key(key, 3)
        valid = source != self.pad
        x = self._embed(self.source_table, source, key_input)
        annotations, summary = self.encoder(x, valid, key_encoder)
        start = affine(summary, self.start[...], self.start_bias[...])
        memory = self.mechanism.project(annotations, summary, valid)
        return Memory(memory, jnp.tanh(start), self.mechanism.draw(key_draw, len(source))), []

    def sampling(self, memory: Memory, key: PRNGKeyArray) -> Memory:
        """The memory of a decoder that draws where it looks, and reads no expectation."""
        return memory._replace(draw=Draw(key, jnp.zeros(len(memory.start), bool)))

    def attention(self, source: Int[Array, "B S"], target: Int[Array, "B T"]) -> Attention:
        """Which source positions each target position looked at, in evaluation."""
        if self.mechanism.alignment == "none":
            return Attention([], [], [])
        memory, _ = self.encode(source)
        _, aligned = self.decode(target, memory)
        return Attention([], [], [self.mechanism.spread(aligned, source.shape[1])[:, None]])

    def decode(
        self, target: Int[Array, "B T"], memory: Memory, key: PRNGKeyArray | None = None
    ) -> tuple[Float[Array, "B T D"], Aligned]:
        """All positions, teacher-forced: position t sees the targets before t.

        Returns:
            The states under the softmax, and what was attended to.
        """
        raise NotImplementedError

    def _embed(self, table, tokens, key):
        # Looked up first and narrowed then: so the gradients of a frequent token add up in float32.
        return dropout(table[...][tokens].astype(self.dtype), self.rate, key)

    def _embed_shifted(self, target, key):
        shifted = jnp.pad(target[:, :-1], ((0, 0), (1, 0)), constant_values=self.bos)
        return self._embed(self.target_table, shifted, key)

    def _logits(self, states):
        table = self.output_table.astype(states.dtype)
        return jnp.einsum("...d,vd->...v", states, table, preferred_element_type=jnp.float32)


def draw_at(draw: Draw | None, position: Int[Array, ""]) -> Draw | None:
    """The draw of one position; a sentence reads its expectation at all of them or at none."""
    return draw and draw._replace(key=jax.random.fold_in(draw.key, position))


def batch_major(tree: Any) -> Any:
    """[T, B, 1, ...] of a scan over single beams to [B, T, ...]."""
    return jax.tree.map(lambda x: jnp.swapaxes(x[:, :, 0], 0, 1), tree)
