"""Encoder-decoders whose output is a softmax over a fixed number of indices.

Source: the baselines of Vinyals et al. 2015, "Pointer Networks", sec. 2.1 (LSTM) and 2.2 (content
based input attention). Since the output layer has a row for each index, such a model supports one
number of points only.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Bool, Float, Int, PRNGKeyArray

import attention
from attention import affine
from models.layers import glorot, param, shift_right
from models.pointer_network.decoding import ChoiceModel, MaskFn, mark_chosen
from models.pointer_network.encoders import LSTMEncoder
from models.pointer_network.network import ProjectedKeys, Scorer
from models.recurrence import LSTM, make_matmul


class Memory(NamedTuple):
    """Encoder outputs that every decoding step reads."""

    keys: ProjectedKeys | None  # None without attention
    initial_state: tuple[Float[Array, "B H"], Float[Array, "B H"]]


class DecoderState(NamedTuple):
    """LSTM state of W beams per example, the last context, and the indices chosen before."""

    hidden: Float[Array, "B W H"]
    cell: Float[Array, "B W H"]
    context: Float[Array, "B W C"]  # d', of width H, or 0 without attention
    chosen: Bool[Array, "B W S"]


class Seq2Seq(ChoiceModel):
    """LSTM encoder and decoder, optionally with attention to the points.

    The decoder reads an embedding of the previous index. With attention, the context is
    concatenated with the hidden state for the prediction, and with the input of the next step.

    Args:
        points: N, the number of points.
        hidden: H, width of encoder, decoder and embeddings.
        attends: whether the decoder attends to the annotations, with the additive score.
        width: A, width of the hidden layer of the score.
        key: PRNG key of the weights.
    """

    def __init__(self, *, points: int, hidden: int, attends: bool, width: int, key: PRNGKeyArray):
        keys = jax.random.split(key, 5)
        outputs, context = points + 1, hidden if attends else 0
        self.encoder = LSTMEncoder(hidden, key=keys[0])
        embeddings = glorot(keys[1], (outputs, hidden), outputs, hidden)
        self.embeddings = param(embeddings, ("vocab", "embed"))
        self.decoder = LSTM(hidden + context, hidden, key=keys[2])
        self.scorer = (
            Scorer(hidden, score="additive", width=width, key=keys[3]) if attends else None
        )
        kernel = glorot(keys[4], (hidden + context, outputs), hidden + context, outputs)
        self.output = param(kernel, ("embed", "vocab"))
        self.output_bias = param(jnp.zeros(outputs), ("vocab",))

    def encode(self, points: Float[Array, "B N 2"], count: Int[Array, ""]) -> Memory:
        """Encode the points.

        Raises:
            ValueError: if the number of points is not that of the output layer.
        """
        if points.shape[1] + 1 != self.output.shape[1]:
            raise ValueError(
                f"this model supports {self.output.shape[1] - 1} points, not {points.shape[1]}"
            )
        annotations, state = self.encoder(points, count)
        keys = None if self.scorer is None else self.scorer.project(annotations)
        return Memory(keys, state)

    def __call__(
        self,
        points: Float[Array, "B N 2"],
        count: Int[Array, ""],
        choices: Int[Array, "B W T"],
        steps: Int[Array, ""],
        mask: Bool[Array, "B W T S"],
    ) -> Float[Array, "B W T S"]:
        """See `ChoiceModel`; all T steps are computed."""
        del steps
        memory = self.encode(points, count)
        previous = shift_right(choices, points.shape[1])

        def step(state, previous):
            state, features = self._step(previous, state, memory)
            return state, features

        state = self.init_cache(memory, choices.shape[1])
        _, features = lax.scan(step, state, jnp.moveaxis(previous, 2, 0))
        return attention.log_soft(self._logits(jnp.moveaxis(features, 0, 2), mask))

    def _step(self, choices, state, memory):
        """Return the state after a step without the chosen indices, and `[d, d']`."""
        inputs = jnp.concatenate([self.embeddings[...][choices], state.context], axis=-1)
        matmul = make_matmul(self.decoder.weights())
        projected = self.decoder.project_inputs(inputs)
        (hidden, cell), _ = self.decoder.step(matmul, projected, (state.hidden, state.cell))
        context = state.context
        if self.scorer is not None:
            queries = affine(hidden, self.scorer.query[...])
            context, _ = attention.attend(queries, *memory.keys, **self.scorer.score_args())
        state = DecoderState(hidden, cell, context, state.chosen)
        return state, jnp.concatenate([hidden, context], axis=-1)

    def _logits(self, features, mask):
        logits = affine(features, self.output[...], self.output_bias[...])
        return jnp.where(mask, logits.astype(jnp.float32), -jnp.inf)

    def init_cache(self, memory: Memory, beams: int) -> DecoderState:
        """Return the state of `beams` beams per example before the first step."""
        repeat = lambda x: jnp.broadcast_to(x[:, None], (len(x), beams, x.shape[-1]))
        hidden, cell = map(repeat, memory.initial_state)
        context = jnp.zeros((*hidden.shape[:2], self.output.shape[0] - hidden.shape[-1]))
        chosen = jnp.zeros((*hidden.shape[:2], self.output.shape[1]), bool)
        return DecoderState(hidden, cell, context, chosen)

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
        state, features = self._step(choices, state._replace(chosen=chosen), memory)
        return self._logits(features, mask_fn(chosen, position)), state
