"""Interface of the encoder-decoder models."""

from typing import Any, NamedTuple, Protocol

import jax.numpy as jnp
from jaxtyping import Array, Float, Int, PRNGKeyArray

Weights = list[Float[Array, "B H _ _"] | None]  # one array [B, H, queries, keys] per layer


class Attention(NamedTuple):
    """Attention weights of a full pass; under jit, weights that are not used cost nothing.

    A list is empty if the model has no attention of that kind. Single-head attention has H = 1.
    """

    encoder: Weights
    decoder: Weights
    cross: Weights


class Segments(NamedTuple):
    """Segment ids and positions of packed rows.

    Attributes:
        ids: index of the sequence within its row, counted from 1; 0 at padding.
        positions: position within the sequence; 0 at padding.
    """

    ids: Int[Array, "B T"]
    positions: Int[Array, "B T"]

    @classmethod
    def from_tokens(cls, tokens: Int[Array, "B T"], pad: int) -> "Segments":
        """Segments of unpacked rows: one sequence per row, starting at position 0."""
        return cls(
            (tokens != pad).astype(jnp.int32),
            jnp.broadcast_to(jnp.arange(tokens.shape[1]), tokens.shape),
        )


class EncoderDecoder(Protocol):
    """Encoder-decoder, a `flax.nnx` module; callers treat values of type `Any` as opaque.

    Attributes:
        pad: token id of padding.
        bos: token id that precedes the first target token.
        supports_packing: whether `encode` and `decode` accept the `Segments` of packed rows.
        has_alignment: whether the decoder attends to source positions.
    """

    pad: int
    bos: int
    supports_packing: bool

    @property
    def has_alignment(self) -> bool: ...

    @property
    def samples_attention(self) -> bool:
        """Whether the alignment is `hard`, so that training needs the REINFORCE loss term.

        Such models also have the members that `tasks.translation.hard_attention` and
        `tasks.translation.decoding` read: `with_sampling`, `attention_layer.entropy_weight`, and an
        alignment with `log_prob` and `entropy`.
        """
        ...

    def encode(self, source: Int[Array, "B S"], key: PRNGKeyArray | None = None) -> tuple[Any, Any]:
        """Encode the source; return the decoder's memory and the encoder's attention weights.

        `key` is for dropout and for sampled alignments; `None` in evaluation.
        """
        ...

    def decode(
        self, target: Int[Array, "B T"], memory: Any, key: PRNGKeyArray | None = None
    ) -> tuple[Float[Array, "B T D"], Any]:
        """Decode with teacher forcing; return the pre-softmax states and the attention weights."""
        ...

    @property
    def output_embedding(self) -> Float[Array, "V D"]:
        """Output embedding: the logits are `states @ output_embedding.T`."""
        ...

    def attention(self, source: Int[Array, "B S"], target: Int[Array, "B T"]) -> Attention:
        """Attention weights of a full pass in evaluation mode."""
        ...

    def alignment(
        self, source: Int[Array, "B S"], target: Int[Array, "B T"]
    ) -> Float[Array, "B T S"]:
        """Weights of the source positions with which each target token is aligned.

        The weights of the last position of the batch are meaningless: no word is there, but EOS or
        padding.
        """
        ...

    def init_cache(self, memory: Any, beams: int, length: int) -> Any:
        """Create the cache of `length` decoding steps, a pytree of arrays `[B, W, ...]`."""
        ...

    def decode_step(
        self, tokens: Int[Array, "B W"], cache: Any, memory: Any, position: Int[Array, ""]
    ) -> tuple[Float[Array, "B W V"], Any]:
        """Logits at `position` given the tokens before it, and the updated cache."""
        ...
