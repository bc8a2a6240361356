"""Recurrent encoder–decoders: RNNsearch of Bahdanau et al. 2015, and Luong et al. 2015.

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
from models.encoders import make_encoder
from models.layers import dropout, glorot, param, split_key
from models.mechanism import Aligned, Draw, Mechanism, Source
from models.recurrence import (
    GRU,
    LSTM,
    Product,
    gru_cell,
    product_by,
    scan,
    with_bias,
    with_one,
)

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
        encoder: see `models.encoders.make_encoder`; its `width` is M, that of the annotations.
        attention: see `models.mechanism.Mechanism`.
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
        return dropout(table[...].astype(self.dtype)[tokens], self.rate, key)

    def _embed_shifted(self, target, key):
        shifted = jnp.pad(target[:, :-1], ((0, 0), (1, 0)), constant_values=self.bos)
        return self._embed(self.target_table, shifted, key)

    def _logits(self, states):
        table = self.output_table.astype(states.dtype)
        return jnp.einsum("...d,vd->...v", states, table, preferred_element_type=jnp.float32)


def _at(draw: Draw | None, position: Int[Array, ""]) -> Draw | None:
    """The draw of one position; a sentence reads its expectation at all of them or at none."""
    return draw and draw._replace(key=jax.random.fold_in(draw.key, position))


def _batch_major(tree: Any) -> Any:
    """[T, B, 1, ...] of a scan over single beams to [B, T, ...]."""
    return jax.tree.map(lambda x: jnp.swapaxes(x[:, :, 0], 0, 1), tree)


class RNNsearch(Seq2Seq):
    """Bahdanau et al. 2015, app. A: `s_i = GRU(s_{i-1}, y_{i-1}, c_i)`, `c_i` read by `s_{i-1}`.

    Deviations: the first state is made of both directions' last states, not of the backward one
    alone; output weights have no bias.

    The arguments are those of `Seq2Seq`, and `maxout`, the width of the readout's maxout layer.
    """

    def __init__(
        self,
        *,
        vocabulary: int,
        embedding: int,
        hidden: int,
        maxout: int,
        encoder: Options,
        attention: Options,
        dropout: float,
        dtype: str,
        key: PRNGKeyArray,
    ):
        key, *keys = jax.random.split(key, 4)
        super().__init__(
            vocabulary=vocabulary,
            embedding=embedding,
            hidden=hidden,
            start=hidden,
            output=maxout,
            encoder=encoder,
            attention=attention,
            dropout=dropout,
            dtype=dtype,
            key=key,
        )
        e, m, h = embedding, encoder["width"], hidden
        self.cell = GRU(e, h, key=keys[0])
        self.context = param(glorot(keys[1], (m, 3 * h), m, h), ("embed", "mlp"))
        read = e + m + h
        self.readout = param(glorot(keys[2], (read, 2 * maxout), read, maxout), ("embed", "mlp"))
        self.readout_bias = param(jnp.zeros(2 * maxout), ("mlp",))

    def _weights(self):
        return {**self.cell.weights(), **self.mechanism.weights(), "context": self.context[...]}

    def _step(self, product: Product, consts, state: Float[Array, "B W H"], x):
        """Attends, then moves on: the state before, what it read, and the state after."""
        (source, _, draw), params = consts
        drive, position = x
        positions = jnp.broadcast_to(position, state.shape[1:2])
        context, aligned = self.mechanism(
            product, params, source, state, positions, _at(draw, position)
        )
        new = gru_cell(product, drive + product("context", context), state)
        return new, (state, context, aligned)

    def _read_out(self, states, inputs, contexts, key):
        x = jnp.concatenate([states, inputs, contexts], axis=-1)
        x = affine(x, self.readout[...], self.readout_bias[...])
        x = x.reshape(*x.shape[:-1], -1, 2).max(-1)
        return dropout(x, self.rate, key)

    def decode(
        self, target: Int[Array, "B T"], memory: Memory, key: PRNGKeyArray | None = None
    ) -> tuple[Float[Array, "B T D"], Aligned]:
        """See `Seq2Seq.decode`: one scan over the target."""
        key_input, key_output = split_key(key, 2)
        inputs = self._embed_shifted(target, key_input)
        drive = jnp.swapaxes(self.cell.drive(inputs), 0, 1)[:, :, None]
        consts = memory, self.mechanism.params(len(target))
        xs = drive, jnp.arange(target.shape[1])
        _, outputs = scan(self._step, self._weights(), consts, memory.start[:, None], xs)
        states, contexts, aligned = _batch_major(outputs)
        return self._read_out(states, inputs, contexts, key_output), aligned

    def init_cache(self, memory: Memory, beams: int, length: int) -> Float[Array, "B W H"]:
        """The first state of every beam."""
        del length
        return jnp.repeat(memory.start[:, None], beams, axis=1)

    def decode_step(
        self,
        tokens: Int[Array, "B W"],
        cache: Float[Array, "B W H"],
        memory: Memory,
        position: Int[Array, ""],
    ) -> tuple[Float[Array, "B W V"], Float[Array, "B W H"]]:
        """One target position of every beam; equal to that position of the full pass."""
        inputs = self._embed(self.target_table, tokens, None)
        cache, (states, contexts, _) = self._step(
            product_by(self._weights()),
            (memory, self.mechanism.params(len(tokens))),
            cache,
            (self.cell.drive(inputs), position),
        )
        return self._logits(self._read_out(states, inputs, contexts, None)), cache


class LuongState(NamedTuple):
    """The decoder's carry: hidden and cell state of each layer, and what is fed back."""

    layers: list[tuple[Float[Array, "B W H"], Float[Array, "B W H"]]]
    fed: Float[Array, "B W H"] | None


class Luong(Seq2Seq):
    """Luong et al. 2015: stacked LSTM with attention on top, `h~ = tanh(W_c [c; h])` (eq. 5).

    Deviation: the layers' first states are a tanh layer of the encoder's summary, whatever the
    encoder, where the paper copies the encoder's own layer by layer; output weights have no bias.

    The arguments are those of `Seq2Seq`, and how many `layers` the decoder has, and whether there
    is `input_feeding`: `h~` of a position as an input of the next (sec. 3.3).
    """

    def __init__(
        self,
        *,
        vocabulary: int,
        embedding: int,
        hidden: int,
        layers: int,
        input_feeding: bool,
        encoder: Options,
        attention: Options,
        dropout: float,
        dtype: str,
        key: PRNGKeyArray,
    ):
        key, key_layers, key_combine, key_feed = jax.random.split(key, 4)
        super().__init__(
            vocabulary=vocabulary,
            embedding=embedding,
            hidden=hidden,
            start=2 * layers * hidden,
            output=hidden,
            encoder=encoder,
            attention=attention,
            dropout=dropout,
            dtype=dtype,
            key=key,
        )
        e, m, h = embedding, encoder["width"], hidden
        self.layers = nnx.List(
            LSTM(h if n else e, h, key=k)
            for n, k in enumerate(jax.random.split(key_layers, layers))
        )
        self.combine = param(glorot(key_combine, (m + h, h), m + h, h), ("embed", "mlp"))
        self.feed = (
            param(glorot(key_feed, (h, 4 * h), h, h), ("embed", "mlp")) if input_feeding else None
        )

    def _weights(self):
        weights = {"combine": self.combine[...], **self.mechanism.weights()}
        for n, layer in enumerate(self.layers):
            weights |= {f"{n}.{name}": weight for name, weight in layer.weights().items()}
            if n:
                weights[f"{n}.input"] = with_bias(layer.input[...], layer.bias[...])
        return weights | ({"feed": self.feed[...]} if self.feed is not None else {})

    def _consts(self, memory):
        return memory, self.mechanism.params(len(memory.start))

    def _states(self, product: Product, state: LuongState, drive, key):
        """The layers' new states."""
        if state.fed is not None:
            drive = drive + product("feed", state.fed)
        states: list = []
        for n, (carry, layer_key) in enumerate(
            zip(state.layers, split_key(key, len(state.layers)), strict=True)
        ):
            if n:
                below = dropout(states[-1][0], self.rate, layer_key)
                drive = product(f"{n}.input", with_one(below))
            inner = lambda name, x, n=n: product(f"{n}.{name}", x)
            states.append(LSTM.step(inner, drive, carry)[0])
        return states

    def _attend(self, product: Product, consts, hidden, positions, draw):
        """`h~` of top states, each of which attends once."""
        memory, params = consts
        contexts, aligned = self.mechanism(product, params, memory.source, hidden, positions, draw)
        return jnp.tanh(product("combine", jnp.concatenate([contexts, hidden], -1))), aligned

    def _step(self, product: Product, consts, state: LuongState, x):
        """One position with attention in it."""
        drive, position, key = x
        key_layers, key_output = split_key(key, 2)
        layers = self._states(product, state, drive, key_layers)
        hidden = layers[-1][0]
        positions = jnp.broadcast_to(position, hidden.shape[1:2])
        draw = _at(consts[0].draw, position)
        combined, aligned = self._attend(product, consts, hidden, positions, draw)
        combined = dropout(combined, self.rate, key_output)
        fed = None if state.fed is None else combined
        return LuongState(layers, fed), (combined, aligned)

    def _states_alone(self, product: Product, consts, state: LuongState, x):
        """One position of the recurrence where nothing of attention is fed back."""
        del consts
        drive, key = x
        layers = self._states(product, state, drive, key)
        return LuongState(layers, None), layers[-1][0]

    def decode(
        self, target: Int[Array, "B T"], memory: Memory, key: PRNGKeyArray | None = None
    ) -> tuple[Float[Array, "B T D"], Aligned]:
        """See `Seq2Seq.decode`: with input feeding one scan, without it attention in one call."""
        key_input, key_steps, key_output = split_key(key, 3)
        steps = target.shape[1]
        inputs = self._embed_shifted(target, key_input)
        drive = jnp.swapaxes(self.layers[0].drive(inputs), 0, 1)[:, :, None]
        keys = None if key_steps is None else jax.random.split(key_steps, steps)
        start, weights = self.init_cache(memory, 1, steps), self._weights()
        consts, positions = self._consts(memory), jnp.arange(steps)
        if self.feed is not None:
            xs = (drive, positions, keys)
            _, outputs = scan(self._step, weights, consts, start, xs)
            return _batch_major(outputs)
        recurrent = {name: weight for name, weight in weights.items() if name[0].isdigit()}
        _, hidden = scan(self._states_alone, recurrent, None, start, (drive, keys))
        states, aligned = self._attend(
            product_by(weights), consts, _batch_major(hidden), positions, memory.draw
        )
        return dropout(states, self.rate, key_output), aligned

    def init_cache(self, memory: Memory, beams: int, length: int) -> LuongState:
        """The first states of every beam."""
        del length
        parts = jnp.split(memory.start[:, None], 2 * len(self.layers), axis=-1)
        parts = [jnp.repeat(part, beams, axis=1) for part in parts]
        layers = list(zip(parts[::2], parts[1::2], strict=True))
        return LuongState(layers, None if self.feed is None else jnp.zeros_like(parts[0]))

    def decode_step(
        self,
        tokens: Int[Array, "B W"],
        cache: LuongState,
        memory: Memory,
        position: Int[Array, ""],
    ) -> tuple[Float[Array, "B W V"], LuongState]:
        """One target position of every beam; equal to that position of the full pass."""
        drive = self.layers[0].drive(self._embed(self.target_table, tokens, None))
        cache, (states, _) = self._step(
            product_by(self._weights()), self._consts(memory), cache, (drive, position, None)
        )
        return self._logits(states), cache
