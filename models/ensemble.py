"""Ensemble of encoder-decoders that averages their probabilities."""

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float, Int, PRNGKeyArray

from models.encoder_decoder import Attention


class Ensemble(nnx.Module):
    """An `EncoderDecoder` for evaluation whose probabilities are the mean over its members.

        p(y_t | y_<t, x) = 1/K sum_k p_k(y_t | y_<t, x)

    Memories, caches, pre-softmax states and output embeddings are tuples with an element of each
    member. Source: Sutskever et al. 2014, sec. 3.6; Luong et al. 2015, sec. 4.

    Args:
        members: encoder-decoders with the same token ids.
    """

    pad, bos = 0, 1
    supports_packing = False
    samples_attention = False

    def __init__(self, members: Sequence[Any]):
        self.members = nnx.List(members)

    @property
    def has_alignment(self) -> bool:
        """Whether all members attend to source positions."""
        return all(member.has_alignment for member in self.members)

    @property
    def output_embedding(self) -> tuple[Float[Array, "V _"], ...]:
        """Output embedding of each member."""
        return tuple(member.output_embedding for member in self.members)

    def encode(
        self, source: Int[Array, "B S"], key: PRNGKeyArray | None = None
    ) -> tuple[tuple, tuple]:
        """Return the memory and the encoder's attention weights of each member."""
        pairs = [member.encode(source, key) for member in self.members]
        return tuple(memory for memory, _ in pairs), tuple(weights for _, weights in pairs)

    def decode(
        self, target: Int[Array, "B T"], memory: tuple, key: PRNGKeyArray | None = None
    ) -> tuple[tuple, tuple]:
        """Return the pre-softmax states and the attention weights of each member."""
        pairs = [
            member.decode(target, member_memory, key)
            for member, member_memory in zip(self.members, memory, strict=True)
        ]
        return tuple(states for states, _ in pairs), tuple(weights for _, weights in pairs)

    def with_sampling(self, memory: tuple, key: PRNGKeyArray) -> tuple:
        """Sample the alignments of the members with hard attention."""
        keys = jax.random.split(key, len(self.members))
        return tuple(
            member.with_sampling(x, k) if member.samples_attention else x
            for member, x, k in zip(self.members, memory, keys, strict=True)
        )

    def attention(self, source: Int[Array, "B S"], target: Int[Array, "B T"]) -> Attention:
        """Return the attention weights of the first member."""
        return self.members[0].attention(source, target)

    def alignment(
        self, source: Int[Array, "B S"], target: Int[Array, "B T"]
    ) -> Float[Array, "B T S"]:
        """Mean over members of the weights with which each target token is aligned."""
        return sum(member.alignment(source, target) for member in self.members) / len(self.members)

    def init_cache(self, memory: tuple, beams: int, length: int) -> tuple:
        """Create the cache of each member."""
        return tuple(
            member.init_cache(member_memory, beams, length)
            for member, member_memory in zip(self.members, memory, strict=True)
        )

    def decode_step(
        self, tokens: Int[Array, "B W"], cache: tuple, memory: tuple, position: Int[Array, ""]
    ) -> tuple[Float[Array, "B W V"], tuple]:
        """Log-probabilities at `position` given the tokens before it, and the updated caches."""
        log_probs, caches = [], []
        for member, member_cache, member_memory in zip(self.members, cache, memory, strict=True):
            logits, member_cache = member.decode_step(tokens, member_cache, member_memory, position)
            log_probs.append(jax.nn.log_softmax(logits.astype(jnp.float32), axis=-1))
            caches.append(member_cache)
        return mean_probability(log_probs), tuple(caches)


def mean_probability(log_probs: Sequence[Float[Array, "*B"]]) -> Float[Array, "*B"]:
    """Return the logarithm of the mean of probabilities."""
    return jax.nn.logsumexp(jnp.stack(log_probs), axis=0) - jnp.log(len(log_probs))
