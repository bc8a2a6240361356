"""The decoder of Luong et al. 2015: attention on top of stacked LSTMs, input feeding or not."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float, Int, PRNGKeyArray

from models.layers import dropout, glorot, param, split_key
from models.recurrence import LSTM, Product, product_by, scan, with_bias, with_one
from models.seq2seq.attention_layer import Aligned
from models.seq2seq.base import Memory, Options, Seq2Seq, batch_major, draw_at


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
        draw = draw_at(consts[0].draw, position)
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
            return batch_major(outputs)
        recurrent = {name: weight for name, weight in weights.items() if name[0].isdigit()}
        _, hidden = scan(self._states_alone, recurrent, None, start, (drive, keys))
        states, aligned = self._attend(
            product_by(weights), consts, batch_major(hidden), positions, memory.draw
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
