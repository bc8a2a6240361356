"""Pointer networks: encoder-decoders whose output at each step is one of the input points.

Source: Vinyals et al. 2015, "Pointer Networks", sec. 2.3; glimpses and logit clipping:
Bello et al. 2016, "Neural Combinatorial Optimization with Reinforcement Learning", appendix A.

The outputs C_1, ..., C_m ("choices") are indices; see `decoding`. The number of points may be
traced and less than N: one compiled program covers all sizes.
"""

from typing import Any, Literal, NamedTuple, get_args

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Bool, Float, Int, PRNGKeyArray

import attention
from attention import affine, pointer
from models.layers import glorot, param, shift_right
from models.pointer_network.decoding import (
    ChoiceModel,
    MaskFn,
    append_end_token,
    mark_chosen,
    select_rows,
)
from models.pointer_network.encoders import make_encoder, run_lstm
from models.recurrence import LSTM, make_matmul

ScoreName = Literal["additive", "general", "dot", "scaled_dot", "content"]
DecoderInputs = Literal["points", "annotations"]


class ProjectedKeys(NamedTuple):
    """Keys and values of one attention for the points, followed by the end token."""

    keys: Float[Array, "B S K"]  # W1 e_j
    values: Float[Array, "B S H"]  # e_j


class Memory(NamedTuple):
    """Encoder outputs and their projections, computed once and read by every decoding step."""

    inputs: Float[Array, "B S D"]  # decoder inputs of each index
    projected_inputs: Float[Array, "B S G"]  # input terms of the LSTM's pre-activations
    glimpses: list[ProjectedKeys]
    pointer: ProjectedKeys
    initial_state: tuple[Float[Array, "B H"], Float[Array, "B H"]]


class DecoderState(NamedTuple):
    """LSTM state of W beams per example, and the indices that they have chosen."""

    hidden: Float[Array, "B W H"]
    cell: Float[Array, "B W H"]
    chosen: Bool[Array, "B W S"]


class Scorer(nnx.Module):
    """Weights of a score u_j between decoder states d_i and annotations e_j, both of width H.

    With the additive score, `u_j = v · tanh(W1 e_j + W2 d_i)` (Vinyals et al. 2015, sec. 2.3).

    Args:
        hidden: H.
        score: name of a function in `attention.scores`.
        width: A, width of the hidden layer of the additive score.
        key: PRNG key of the weights.
    """

    def __init__(self, hidden: int, *, score: ScoreName, width: int, key: PRNGKeyArray):
        if score not in get_args(ScoreName):
            known = ", ".join(get_args(ScoreName))
            raise ValueError(f"score must be one of {known}, not {score!r}")
        keys = jax.random.split(key, 3)
        out = width if score == "additive" else hidden
        kernel = lambda key: param(glorot(key, (hidden, out), hidden, out), ("embed", "mlp"))
        self.query, self.key = kernel(keys[0]), kernel(keys[1])  # W2, W1
        self.vector = (
            param(glorot(keys[2], (out,), out, 1), ("mlp",)) if score == "additive" else None
        )
        # Cosines lie in [-1, 1], so with a key strength of 1 the softmax would be almost uniform.
        self.key_strength = param(jnp.full((), 10.0), ()) if score == "content" else None
        self.score = score

    def project(self, annotations: Float[Array, "B S H"]) -> ProjectedKeys:
        """Project the annotations to keys."""
        return ProjectedKeys(affine(annotations, self.key[...]), annotations)

    def score_args(self) -> dict[str, Any]:
        """Score function and its parameters, as arguments of `pointer.point` and `glimpse`."""
        params = None
        if self.vector is not None:
            params = self.vector[...]
        elif self.key_strength is not None:
            params = jnp.abs(self.key_strength[...])
        return {"score": getattr(attention, self.score), "params": params}


class PointerNet(ChoiceModel):
    """Point encoder and LSTM decoder whose attention weights are the output distribution.

    Args:
        hidden: H, width of encoder and decoder.
        encoder: `kind`, `layers` and `heads` of `make_encoder`.
        decoder_inputs: decoder input for the previous choice: its coordinates, 'points' (Vinyals et
            al.), or its encoder output, 'annotations' (Bello et al.).
        score: name of the score of pointer and glimpses; see `Scorer`.
        width: A, width of the hidden layer of the additive score.
        glimpses: number of glimpses before each pointer; 0 in Vinyals et al.
        logit_clipping: C in `C tanh(u)`; 0 for no clipping, as in Vinyals et al.
        key: PRNG key of the weights.

    Raises:
        ValueError: for an unknown encoder, score or decoder input.
    """

    def __init__(
        self,
        *,
        hidden: int,
        encoder: dict[str, Any],
        decoder_inputs: DecoderInputs,
        score: ScoreName,
        width: int,
        glimpses: int,
        logit_clipping: float,
        key: PRNGKeyArray,
    ):
        keys = jax.random.split(key, 5)
        self.encoder = make_encoder(hidden, **encoder, key=keys[0])
        if decoder_inputs not in get_args(DecoderInputs):
            known = " or ".join(get_args(DecoderInputs))
            raise ValueError(f"decoder_inputs must be {known}, not {decoder_inputs!r}")
        reads_points = decoder_inputs == "points"
        self.decoder = LSTM(2 if reads_points else hidden, hidden, key=keys[1])
        self.end_token = param(0.1 * jax.random.normal(keys[2], (hidden,)), (None,))
        start = 0.1 * jax.random.normal(keys[3], (4 * hidden,))
        # If the decoder reads annotations, the start token is the annotation of the end token.
        self.start_token = param(start, (None,)) if reads_points else None
        self.scorers = nnx.List(
            Scorer(hidden, score=score, width=width, key=k)
            for k in jax.random.split(keys[4], glimpses + 1)
        )
        self.logit_clipping = logit_clipping

    def encode(self, points: Float[Array, "B N 2"], count: Int[Array, ""]) -> Memory:
        """Encode the points and project the annotations for every attention.

        Args:
            points: `[B, N, 2]`.
            count: number of points of every example, at most N.
        """
        annotations, state = self.encoder(points, count)
        annotations = append_end_token(annotations, self.end_token[...])
        *glimpses, pointer_keys = (scorer.project(annotations) for scorer in self.scorers)
        inputs = annotations if self.start_token is None else _append_indicators(points)
        return Memory(inputs, self._project_inputs(inputs), glimpses, pointer_keys, state)

    def __call__(
        self,
        points: Float[Array, "B N 2"],
        count: Int[Array, ""],
        choices: Int[Array, "B W T"],
        steps: Int[Array, ""],
        mask: Bool[Array, "B W T S"],
    ) -> Float[Array, "B W T S"]:
        """Compute log-probabilities of all indices at every step, given the previous choices.

        Each example has W sequences of choices over the same points, which are encoded once. The
        LSTM does not depend on the attention, so one scan computes all states and one batched
        attention computes all logits.

        Args:
            points: `[B, N, 2]`.
            count: number of points of every example.
            choices: C, the target indices.
            steps: number of decoding steps, at most T; the results of later steps are undefined.
            mask: true where an index may be chosen.
        """
        memory, (batch, sequences, length) = self.encode(points, count), choices.shape
        merge_steps = lambda x: x.reshape(batch, sequences * length, -1)
        merge_batch = lambda x: x.reshape(batch * sequences, length, -1)
        previous = shift_right(choices, points.shape[1])
        inputs = self._select_inputs(memory, previous.reshape(batch, sequences * length))
        projected = self._project_inputs(jnp.swapaxes(merge_batch(inputs), 0, 1))
        carry = jax.tree.map(lambda x: jnp.repeat(x, sequences, axis=0), memory.initial_state)
        states, _ = run_lstm(self.decoder, projected, carry, steps)
        logits = self._logits(memory, merge_steps(states), merge_steps(mask))
        return attention.log_soft(logits).reshape(mask.shape)

    def _select_inputs(self, memory, choices):
        """Select the decoder inputs of choices `[B, T]`.

        Points need no gradient, so that they are gathered.
        """
        if self.start_token is None:
            return select_rows(memory.inputs, choices)
        return jnp.take_along_axis(memory.inputs, choices[..., None], axis=1)

    def _project_inputs(self, inputs):
        """Compute the terms of the LSTM's pre-activations that depend on its inputs.

        If the inputs are points, bias and start token are the matrix rows that multiply the two
        indicators, so that their gradients are part of the same matmul and need no reduction.
        """
        lstm = self.decoder
        if self.start_token is None:
            return lstm.project_inputs(inputs)
        return affine(inputs, jnp.stack([*lstm.input[...], lstm.bias[...], self.start_token[...]]))

    def _logits(self, memory, states, mask):
        """Compute the logits of decoder states `[B, T, H]` of T steps, or T beams of one step."""
        *glimpse_scorers, scorer = self.scorers
        for glimpse_scorer, projected in zip(glimpse_scorers, memory.glimpses, strict=True):
            queries = affine(states, glimpse_scorer.query[...])
            args = glimpse_scorer.score_args()
            states = pointer.glimpse(queries, *projected, mask=mask, **args)
        return pointer.point(
            affine(states, scorer.query[...]),
            memory.pointer.keys,
            mask=mask,
            bound=self.logit_clipping,
            **scorer.score_args(),
        )

    def init_cache(self, memory: Memory, beams: int) -> DecoderState:
        """Return the state of `beams` beams per example before the first step."""
        repeat = lambda x: jnp.broadcast_to(x[:, None], (len(x), beams, x.shape[-1]))
        chosen = jnp.zeros((len(memory.inputs), beams, memory.inputs.shape[1]), bool)
        hidden, cell = map(repeat, memory.initial_state)
        return DecoderState(hidden, cell, chosen)

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
        projected = jnp.take_along_axis(memory.projected_inputs, choices[..., None], axis=1)
        matmul = make_matmul(self.decoder.weights())
        (hidden, cell), _ = self.decoder.step(matmul, projected, (state.hidden, state.cell))
        logits = self._logits(memory, hidden, mask_fn(chosen, position))
        return logits, DecoderState(hidden, cell, chosen)


def _append_indicators(points: Float[Array, "B N 2"]) -> Float[Array, "B S 4"]:
    """Append the zero vector of the start token, and indicators `[is point, is start token]`."""
    points = jnp.pad(points, ((0, 0), (0, 1), (0, 0)))
    is_start = jnp.arange(points.shape[1]) == points.shape[1] - 1
    indicators = jnp.stack([~is_start, is_start], axis=-1)
    indicators = jnp.broadcast_to(indicators, (*points.shape[:-1], 2))
    return jnp.concatenate([points, indicators], axis=-1)
