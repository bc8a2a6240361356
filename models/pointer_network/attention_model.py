"""The Attention Model: an encoder-decoder without recurrence, whose outputs are input points.

Source: Kool et al. 2019, "Attention, Learn to Solve Routing Problems!", sec. 3. The query of a step
depends on the choices only through the first and the previous one, so one batched attention
computes all steps.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, PRNGKeyArray

import attention
from attention import KeyValues, affine, attend_heads, multihead, pointer
from models.layers import param, shift_right
from models.pointer_network.decoding import (
    ChoiceModel,
    MaskFn,
    append_end_token,
    mark_chosen,
    select_rows,
)
from models.pointer_network.encoders import TransformerPointEncoder


class Memory(NamedTuple):
    """Projections of the annotations, computed once and read by every decoding step.

    The query of a step is the sum of the projected graph embedding and of the projected annotations
    of the previous and the first choice.
    """

    graph_query: Float[Array, "B H"]
    previous_queries: Float[Array, "B S H"]
    first_queries: Float[Array, "B S H"]
    glimpse: KeyValues
    pointer_keys: Float[Array, "B S H"]


class DecoderState(NamedTuple):
    """First choice of W beams per example, and the indices that they have chosen."""

    first: Int[Array, "B W"]
    chosen: Bool[Array, "B W S"]


class AttentionModel(ChoiceModel):
    """Transformer encoder, one multi-head glimpse at the points, and a pointer.

    From the annotations h_i, their mean m (the graph embedding), and the choices π before step t
    (Kool et al., eq. 4 to 8):

        h_c = [m, h_{π_{t-1}}, h_{π_1}],  g = MHA(W_Q h_c, W_K h_i, W_V h_i)
        u_i = C tanh(g · W_K' h_i / sqrt(H)),  p = softmax(u)

    The points that may not be chosen are masked in both attentions. The query matrix of the pointer
    is merged with the output matrix of the glimpse.

    Deviation: before the first choice, the learned vector of the end token takes the place of both
    choices, where the paper has one placeholder for each.

    Args:
        hidden: H, width of encoder and decoder.
        layers: number of layers of the encoder.
        heads: number of heads of the encoder and of the glimpse.
        logit_clipping: C; 0 for no clipping. The paper has 10.
        key: PRNG key of the weights.

    Raises:
        ValueError: if H is not a multiple of the number of heads.
    """

    def __init__(
        self, *, hidden: int, layers: int, heads: int, logit_clipping: float, key: PRNGKeyArray
    ):
        keys = jax.random.split(key, 8)

        def kernel(key, outputs, fan_in=hidden):
            limit = fan_in**-0.5  # sec. 5
            sample = jax.random.uniform(key, (hidden, outputs), minval=-limit, maxval=limit)
            return param(sample, ("embed", "mlp"))

        self.encoder = TransformerPointEncoder(hidden, layers, heads, key=keys[0])
        self.end_token = param(0.1 * jax.random.normal(keys[1], (hidden,)), (None,))
        # W_Q, which multiplies the context h_c of width 3H, in three parts.
        self.query_graph, self.query_previous, self.query_first = (
            kernel(key, hidden, fan_in=3 * hidden) for key in keys[2:5]
        )
        self.key_value = kernel(keys[5], 2 * hidden)
        self.output = kernel(keys[6], hidden)  # W_O of the glimpse
        self.pointer_key = kernel(keys[7], hidden)
        self.heads, self.logit_clipping = heads, logit_clipping

    def encode(self, points: Float[Array, "B N 2"], count: Int[Array, ""]) -> Memory:
        """Encode the points and project the annotations for both attentions.

        Args:
            points: `[B, N, 2]`.
            count: number of points of every example, at most N.
        """
        annotations, mean = self.encoder.annotate(points, count)
        annotations = append_end_token(annotations, self.end_token[...])
        keys, values = jnp.split(affine(annotations, self.key_value[...]), 2, axis=-1)
        split = lambda x: multihead.split_heads(x, self.heads)
        return Memory(
            affine(mean, self.query_graph[...]),
            affine(annotations, self.query_previous[...]),
            affine(annotations, self.query_first[...]),
            KeyValues(split(keys), split(values)),
            affine(annotations, self.pointer_key[...]),
        )

    def __call__(
        self,
        points: Float[Array, "B N 2"],
        count: Int[Array, ""],
        choices: Int[Array, "B W T"],
        steps: Int[Array, ""],
        mask: Bool[Array, "B W T S"],
    ) -> Float[Array, "B W T S"]:
        """See `ChoiceModel`; `steps` is ignored, because all T steps are computed at once."""
        del steps
        memory, end = self.encode(points, count), points.shape[1]
        merge = lambda x: x.reshape(len(x), -1, *x.shape[3:])  # [B, W, T, ...] -> [B, W T, ...]
        first = jnp.where(jnp.arange(choices.shape[-1]) == 0, end, choices[..., :1])
        logits = self._logits(memory, merge(shift_right(choices, end)), merge(first), merge(mask))
        return attention.log_soft(logits).reshape(mask.shape)

    def _logits(self, memory, previous, first, mask):
        """Compute the logits `[B, T, S]` of T queries with their previous and first choices."""
        queries = (
            memory.graph_query[:, None]
            + select_rows(memory.previous_queries, previous)
            + select_rows(memory.first_queries, first)
        )
        heads = multihead.split_heads(queries, self.heads)
        contexts, _ = attend_heads(heads, memory.glimpse, mask=mask[:, None])
        glimpses = affine(multihead.concatenate_heads(contexts), self.output[...])
        return pointer.point(
            glimpses,
            memory.pointer_keys,
            score=attention.scaled_dot,
            mask=mask,
            bound=self.logit_clipping,
        )

    def init_cache(self, memory: Memory, beams: int) -> DecoderState:
        """Return the state of `beams` beams per example before the first step."""
        batch, size = memory.first_queries.shape[:2]
        first = jnp.zeros((batch, beams), jnp.int32)
        return DecoderState(first, jnp.zeros((batch, beams, size), bool))

    def decode_step(
        self,
        choices: Int[Array, "B W"],
        state: DecoderState,
        memory: Memory,
        mask_fn: MaskFn,
        position: Int[Array, ""],
    ) -> tuple[Float[Array, "B W S"], DecoderState]:
        """See `ChoiceModel`."""
        chosen = mark_chosen(state.chosen, choices)
        # Both are the end token at position 0; at position 1, the previous choice is the first.
        first = jnp.where(position <= 1, choices, state.first)
        logits = self._logits(memory, choices, first, mask_fn(chosen, position))
        return logits, DecoderState(first, chosen)
