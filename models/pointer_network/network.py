"""Pointer networks: an encoder of points, and a decoder whose every output is one of them.

Vinyals et al. 2015, "Pointer Networks", with the glimpses and bounded logits of Bello et al. 2016,
"Neural Combinatorial Optimization with Reinforcement Learning", where they are asked for.

N points have N + 1 choices: the last is the end. As an input it is the start: a learned vector
stands for it on either side. What the decoder reads of a choice is where that point is, as in
Vinyals et al., or the encoder's annotation of it, as in Bello et al. All rows of a batch have as
many points; arrays are as long as the longest, and how many of a row there are is a number, so one
program serves all sizes.
"""

from collections.abc import Callable
from typing import Any, Literal, NamedTuple, get_args

import jax
import jax.numpy as jnp
from flax import nnx
from jax import lax
from jaxtyping import Array, Bool, Float, Int, PRNGKeyArray

import attention
from attention import affine, pointer
from models.beam_search import beam_search
from models.layers import glorot, param
from models.pointer_network.encoders import by_time, make_encoder, run_lstm
from models.recurrence import LSTM, product_by

ScoreName = Literal["additive", "general", "dot", "scaled_dot", "content"]
InputName = Literal["points", "annotations"]
# (chosen [B, W, S], how many choices were made) -> which may be made next, [B, W, S]
Allowed = Callable[[Bool[Array, "B W S"], Int[Array, ""]], Bool[Array, "B W S"]]


class Compared(NamedTuple):
    """Points as one comparison sees them, and the end as the last."""

    keys: Float[Array, "B S K"]
    values: Float[Array, "B S H"]


class Memory(NamedTuple):
    """What the decoder needs of the points, computed once."""

    inputs: Float[Array, "B S D"]  # what the decoder reads of each choice
    drives: Float[Array, "B S G"]  # and what that adds to its gates
    glimpses: list[Compared]
    pointed: Compared
    start: tuple[Float[Array, "B H"], Float[Array, "B H"]]  # of the decoder


class State(NamedTuple):
    """Of W beams of each row: the LSTM's, and what was chosen."""

    hidden: Float[Array, "B W H"]
    cell: Float[Array, "B W H"]
    chosen: Bool[Array, "B W S"]


class Comparison(nnx.Module):
    """Weights of a score between decoder states and annotations, both of width H.

    Args:
        hidden: H.
        score: a name of `attention.scores`.
        width: A, of the additive score's hidden layer.
        key: makes the weights.
    """

    def __init__(self, hidden: int, *, score: ScoreName, width: int, key: PRNGKeyArray):
        if score not in get_args(ScoreName):
            known = ", ".join(get_args(ScoreName))
            raise ValueError(f"score must be one of {known}, not {score!r}")
        keys = jax.random.split(key, 3)
        wide = width if score == "additive" else hidden
        matrix = lambda key: param(glorot(key, (hidden, wide), hidden, wide), ("embed", "mlp"))
        self.query, self.key = matrix(keys[0]), matrix(keys[1])
        self.vector = (
            param(glorot(keys[2], (wide,), wide, 1), ("mlp",)) if score == "additive" else None
        )
        # A cosine alone would leave the softmax almost flat.
        self.sharpness = param(jnp.full((), 10.0), ()) if score == "content" else None
        self.score = score

    def project(self, annotations: Float[Array, "B S H"]) -> Compared:
        """What depends on the points alone."""
        return Compared(affine(annotations, self.key[...]), annotations)

    def score_with(self) -> dict[str, Any]:
        """The score and its own weights."""
        params = None
        if self.vector is not None:
            params = self.vector[...]
        elif self.sharpness is not None:
            params = jnp.abs(self.sharpness[...])
        return {"score": getattr(attention, self.score), "params": params}


class PointerNet(nnx.Module):
    """Encoder, LSTM decoder, and attention as output.

    Args:
        hidden: H, of encoder and decoder.
        encoder: `kind`, `layers` and `heads`; see `make_encoder`.
        inputs: of the decoder, `points` or `annotations`.
        score: of pointing and of glimpses; see `Comparison`.
        width: A, of an additive score's hidden layer.
        glimpses: looks at the points before each choice; Vinyals et al. have none.
        bound: C, of the logits; 0 for none, as in Vinyals et al.
        key: makes the weights.

    Raises:
        ValueError: for a kind of encoder, inputs or a score that there are not.
    """

    def __init__(
        self,
        *,
        hidden: int,
        encoder: dict[str, Any],
        inputs: InputName,
        score: ScoreName,
        width: int,
        glimpses: int,
        bound: float,
        key: PRNGKeyArray,
    ):
        keys = jax.random.split(key, 5)
        self.encoder = make_encoder(hidden, **encoder, key=keys[0])
        if inputs not in get_args(InputName):
            known = " or ".join(get_args(InputName))
            raise ValueError(f"inputs must be {known}, not {inputs!r}")
        self.decoder = LSTM(2 if inputs == "points" else hidden, hidden, key=keys[1])
        self.end = param(0.1 * jax.random.normal(keys[2], (hidden,)), (None,))
        first = 0.1 * jax.random.normal(keys[3], (4 * hidden,))
        self.first = param(first, (None,)) if inputs == "points" else None
        self.comparisons = nnx.List(
            Comparison(hidden, score=score, width=width, key=k)
            for k in jax.random.split(keys[4], glimpses + 1)
        )
        self.bound = bound

    def encode(self, points: Float[Array, "B N 2"], count: Int[Array, ""]) -> Memory:
        """Reads the points.

        Args:
            points: `[B, N, 2]`.
            count: how many of the N there are, the same for all rows.
        """
        rows = lambda x: jnp.broadcast_to(x, (len(points), 1, x.shape[-1]))
        annotations, start = self.encoder(points, count)
        annotations = jnp.concatenate([annotations, rows(self.end[...])], axis=1)
        *glimpses, pointed = (x.project(annotations) for x in self.comparisons)
        inputs = annotations if self.first is None else _with_switches(points)
        return Memory(inputs, self._drive(inputs), glimpses, pointed, start)

    def __call__(
        self,
        points: Float[Array, "B N 2"],
        count: Int[Array, ""],
        choices: Int[Array, "B W T"],
        steps: Int[Array, ""],
        mask: Bool[Array, "B W T S"],
    ) -> Float[Array, "B W T S"]:
        """Log-probability of every choice of W answers about the same points, given those before.

        Nothing feeds back from the attention to the LSTM, so that is one loop, and after it all
        positions of all answers point at once.

        Args:
            points: `[B, N, 2]`.
            count: how many of the N there are.
            choices: what is chosen at each step.
            steps: how many of the T are taken; what is said of later ones means nothing.
            mask: true where a choice is allowed; S is N + 1, the end being the last.
        """
        memory, (rows, answers, length) = self.encode(points, count), choices.shape
        flat = lambda x: x.reshape(rows, answers * length, -1)
        apart = lambda x: x.reshape(rows * answers, length, -1)
        shifted = jnp.pad(
            choices[..., :-1], ((0, 0), (0, 0), (1, 0)), constant_values=points.shape[1]
        )
        read = self._read(memory, shifted.reshape(rows, answers * length))
        drives = self._drive(by_time(apart(read)))
        start = jax.tree.map(lambda x: jnp.repeat(x, answers, axis=0), memory.start)
        states, _ = run_lstm(self.decoder, drives, start, steps)
        logits = self._point(memory, flat(states), flat(mask))
        return attention.log_soft(logits).reshape(mask.shape)

    def _read(self, memory: Memory, choices: Int[Array, "B T"]) -> Float[Array, "B T D"]:
        """What the decoder is given of choices; annotations by a product, as is their gradient."""
        if self.first is None:
            return jax.nn.one_hot(choices, memory.inputs.shape[1]) @ memory.inputs
        return jnp.take_along_axis(memory.inputs, choices[..., None], axis=1)

    def _drive(self, read: Float[Array, "*B D"]) -> Float[Array, "*B G"]:
        """What that adds to the decoder's gates.

        As one product, for then so is the gradient of each weight, and no sum over an array.
        """
        lstm = self.decoder
        if self.first is None:
            return lstm.drive(read)
        return affine(read, jnp.stack([*lstm.input[...], lstm.bias[...], self.first[...]]))

    def _point(self, memory: Memory, states, mask):
        """From decoder states of several steps, or of several beams, to logits."""
        *glimpses, last = self.comparisons
        for comparison, compared in zip(glimpses, memory.glimpses, strict=True):
            queries = affine(states, comparison.query[...])
            states = pointer.glimpse(queries, *compared, mask=mask, **comparison.score_with())
        return pointer.point(
            affine(states, last.query[...]),
            memory.pointed.keys,
            mask=mask,
            bound=self.bound,
            **last.score_with(),
        )

    def init_cache(self, memory: Memory, beams: int) -> State:
        """Of `beams` hypotheses of each row, before anything is chosen."""
        rows = lambda x: jnp.broadcast_to(x[:, None], (len(x), beams, x.shape[-1]))
        chosen = jnp.zeros((len(memory.inputs), beams, memory.inputs.shape[1]), bool)
        hidden, cell = map(rows, memory.start)
        return State(hidden, cell, chosen)

    def decode_step(
        self,
        choices: Int[Array, "B W"],
        state: State,
        memory: Memory,
        allowed: Allowed,
        position: Int[Array, ""],
    ) -> tuple[Float[Array, "B W S"], State]:
        """One choice of every beam; the softmax of its logits is that step of the whole pass.

        Args:
            choices: the last, N at position 0.
            state: of `init_cache` or the step before.
            memory: of `encode`, shared by the beams of a row.
            allowed: what may be chosen next.
            position: how many choices were made.

        Returns:
            Logits of the next choice, -inf where it may not be, and the state.
        """
        size = state.chosen.shape[-1]
        new = jax.nn.one_hot(choices, size, dtype=bool) & (jnp.arange(size) < size - 1)
        chosen = state.chosen | new
        drive = jnp.take_along_axis(memory.drives, choices[..., None], axis=1)
        product = product_by(self.decoder.weights())
        (hidden, cell), _ = self.decoder.step(product, drive, (state.hidden, state.cell))
        mask = allowed(chosen, position)
        return self._point(memory, hidden, mask), State(hidden, cell, chosen)

    def decode(
        self,
        points: Float[Array, "B N 2"],
        count: Int[Array, ""],
        steps: Int[Array, ""],
        length: int,
        allowed: Allowed,
        ends: bool,
        key: PRNGKeyArray | None = None,
        answers: int = 1,
    ) -> Int[Array, "B W T"]:
        """Chooses step by step: the likeliest, or with a key at random.

        Args:
            points: `[B, N, 2]`.
            count: how many of the N there are.
            steps: most choices of a row.
            length: T, no less than `steps`; static.
            allowed: what may be chosen next.
            ends: whether an answer may end before so many steps; if none can, none is asked.
            key: draws each choice from its distribution.
            answers: W, how many are drawn of each row, which is encoded once.

        Returns:
            Choices `[B, W, T]`, N from the end on.
        """
        memory, end = self.encode(points, count), points.shape[1]

        def step(state):
            position, last, cache, choices = state
            scores, cache = self.decode_step(last, cache, memory, allowed, position)
            if key is not None:
                noise_key = jax.random.fold_in(key, position)
                scores = scores + jax.random.gumbel(noise_key, scores.shape)
            best = jnp.argmax(scores, axis=-1).astype(jnp.int32)
            last = jnp.where((last == end) & (position > 0), end, best) if ends else best
            choices = lax.dynamic_update_index_in_dim(choices, last, position, 2)
            return position + 1, last, cache, choices

        def going(state):
            more = state[0] < steps
            return more & ((state[0] == 0) | jnp.any(state[1] != end)) if ends else more

        last = jnp.full((len(points), answers), end, jnp.int32)
        choices = jnp.full((*last.shape, length), end, jnp.int32)
        state = (jnp.int32(0), last, self.init_cache(memory, answers), choices)
        return lax.while_loop(going, step, state)[-1]

    def search(
        self,
        points: Float[Array, "B N 2"],
        count: Int[Array, ""],
        steps: Int[Array, ""],
        length: int,
        allowed: Allowed,
        width: int,
    ) -> tuple[Int[Array, "B W T"], Float[Array, "B W"]]:
        """The likeliest answers that a beam of some width finds, best first.

        Args: as those of `decode`, and the width W.

        Returns:
            Choices, N from the end on, and their log-probabilities, -inf where there are fewer.
        """
        memory, end = self.encode(points, count), points.shape[1]
        found, scores = beam_search(
            lambda last, cache, position: self.decode_step(last, cache, memory, allowed, position),
            self.init_cache(memory, width),
            jnp.full(len(points), steps + 1),  # an answer that does not say its end gets one
            length=length + 1,
            width=width,
            length_penalty=0.0,
            pad=end,
            bos=end,
            eos=end,
        )
        return found[..., :-1], scores


def _with_switches(points: Float[Array, "B N 2"]) -> Float[Array, "B S 4"]:
    """Where each point is, that there is one, and that there is none yet; the last is the start."""
    points = jnp.pad(points, ((0, 0), (0, 1), (0, 0)))
    starting = jnp.arange(points.shape[1]) == points.shape[1] - 1
    switches = jnp.broadcast_to(jnp.stack([~starting, starting], axis=-1), points.shape)
    return jnp.concatenate([points, switches], axis=-1)
