"""Decoder of Luong et al. 2015: attention on top of stacked LSTMs, with optional input feeding."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float, Int, PRNGKeyArray

from models.attention_layer import AlignmentOutput, sampling_at
from models.layers import dropout, glorot, output_logits, param, split_key
from models.recurrence import (
    LSTM,
    MatMul,
    append_bias,
    append_one,
    make_matmul,
    rnn_scan,
    to_batch_major,
)
from models.seq2seq.base import Memory, Options, Seq2Seq
from models.seq2seq.initialization import Initialization, initialize


class LuongState(NamedTuple):
    """Carry of the decoder."""

    layers: list[tuple[Float[Array, "B W H"], Float[Array, "B W H"]]]  # hidden and cell states
    h_tilde: Float[Array, "B W H"] | None  # h~_{t-1}; `None` without input feeding


class Luong(Seq2Seq):
    """Encoder-decoder of Luong et al. 2015, sec. 3.

        h_t  = LSTM(h_{t-1}, E y_{t-1})                or, with input feeding (sec. 3.3),
        h_t  = LSTM(h_{t-1}, [E y_{t-1}; h~_{t-1}])
        c_t  = sum_s a_t(s) h_s
        h~_t = tanh(W_c [c_t; h_t])                    (eq. 5)
        p(y_t | y_1 .. y_{t-1}, x) = softmax(W_s h~_t) (eq. 6)

    where a_t is the alignment of h_t with the annotations h_s.

    Deviations: the initial states are a tanh layer of the encoder's summary, for every encoder; the
    paper copies the states of the encoder layer by layer. W_s has no bias.

    Args: those of `Seq2Seq`, the number of decoder `layers`, whether to use `input_feeding`, and
    the `initialization`, see `models.seq2seq.initialization`.
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
        initialization: Initialization,
        key: PRNGKeyArray,
    ):
        key, key_layers, key_combine, key_feed = jax.random.split(key, 4)
        super().__init__(
            vocabulary=vocabulary,
            embedding=embedding,
            hidden=hidden,
            initial_width=2 * layers * hidden,
            output_width=hidden,
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
        self.combine = param(glorot(key_combine, (m + h, h), m + h, h), ("embed", "mlp"))  # W_c
        # Part of the first layer's input kernel that multiplies h~_{t-1}.
        self.feed = (
            param(glorot(key_feed, (h, 4 * h), h, h), ("embed", "mlp")) if input_feeding else None
        )
        initialize(self, initialization, key)

    def _recurrent_weights(self):
        """Matrices of the LSTM layers; the bias of each layer but the first is in its kernel."""
        weights: dict[str, Array] = {}
        for n, layer in enumerate(self.layers):
            weights |= {f"{n}.{name}": weight for name, weight in layer.weights().items()}
            if n:
                weights[f"{n}.input"] = append_bias(layer.input[...], layer.bias[...])
        return weights

    def _weights(self):
        weights = self._recurrent_weights() | self.attention_layer.weights()
        if self.feed is not None:
            weights["feed"] = self.feed[...]
        return weights | {"combine": self.combine[...]}

    def _consts(self, memory):
        return memory, self.attention_layer.broadcast_params(len(memory.initial_state))

    def _lstm(self, matmul: MatMul, state: LuongState, projected_y, key):
        """Compute the new states of the LSTM layers; the hidden state of the last layer is h_t."""
        projected = projected_y
        if state.h_tilde is not None:
            projected = projected + matmul("feed", state.h_tilde)
        states: list = []
        for n, (carry, layer_key) in enumerate(
            zip(state.layers, split_key(key, len(state.layers)), strict=True)
        ):
            if n:
                x = dropout(states[-1][0], self.rate, layer_key)
                projected = matmul(f"{n}.input", append_one(x))
            layer_matmul = lambda name, x, n=n: matmul(f"{n}.{name}", x)
            states.append(LSTM.step(layer_matmul, projected, carry)[0])
        return states

    def _attend(self, matmul: MatMul, consts, h, positions, sampling):
        """Compute h~_t and a_t from h_t."""
        memory, params = consts
        c, a = self.attention_layer(matmul, params, memory.source, h, positions, sampling)
        return jnp.tanh(matmul("combine", jnp.concatenate([c, h], -1))), a

    def _step(self, matmul: MatMul, consts, state: LuongState, x):
        """Compute one position, including attention."""
        projected_y, t, key = x
        key_layers, key_output = split_key(key, 2)
        layers = self._lstm(matmul, state, projected_y, key_layers)
        h = layers[-1][0]
        positions, sampling = jnp.broadcast_to(t, h.shape[1:2]), sampling_at(consts[0].sampling, t)
        h_tilde, a = self._attend(matmul, consts, h, positions, sampling)
        h_tilde = dropout(h_tilde, self.rate, key_output)
        return LuongState(layers, None if state.h_tilde is None else h_tilde), (h_tilde, a)

    def _lstm_step(self, matmul: MatMul, consts, state: LuongState, x):
        """Compute the LSTM states of one position, without attention."""
        del consts
        projected_y, key = x
        layers = self._lstm(matmul, state, projected_y, key)
        return LuongState(layers, None), layers[-1][0]

    def decode(
        self, target: Int[Array, "B T"], memory: Memory, key: PRNGKeyArray | None = None
    ) -> tuple[Float[Array, "B T D"], AlignmentOutput]:
        """Decode as in `Seq2Seq`; without input feeding, attention is one call after the scan."""
        key_input, key_steps, key_output = split_key(key, 3)
        length = target.shape[1]
        y_prev = self._embed_shifted(target, key_input)
        projected_y = jnp.swapaxes(self.layers[0].project_inputs(y_prev), 0, 1)[:, :, None]
        keys = None if key_steps is None else jax.random.split(key_steps, length)
        initial, weights = self.init_cache(memory, 1, length), self._weights()
        consts, positions = self._consts(memory), jnp.arange(length)
        if self.feed is not None:
            inputs = projected_y, positions, keys
            _, outputs = rnn_scan(self._step, weights, consts, initial, inputs)
            return to_batch_major(outputs)
        _, h = rnn_scan(
            self._lstm_step, self._recurrent_weights(), None, initial, (projected_y, keys)
        )
        h_tilde, a = self._attend(
            make_matmul(weights), consts, to_batch_major(h), positions, memory.sampling
        )
        return dropout(h_tilde, self.rate, key_output), a

    def alignment(
        self, source: Int[Array, "B S"], target: Int[Array, "B T"]
    ) -> Float[Array, "B T S"]:
        """Return the weights with which each target token is aligned (Luong et al. 2015, sec. 5.3).

        The step that receives y_{t-1} and predicts y_t computes the alignment of y_t with a
        location-based score, but of y_{t-1} with a score that compares h_t, a function of y_{t-1},
        with the annotations.
        """
        weights = super().alignment(source, target)
        if self.attention_layer.score == "location":
            return weights
        return jnp.roll(weights, -1, axis=1)

    def init_cache(self, memory: Memory, beams: int, length: int) -> LuongState:
        """Return the initial states of every beam."""
        del length
        parts = jnp.split(memory.initial_state[:, None], 2 * len(self.layers), axis=-1)
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
        """Decode one target position of every beam, equal to the same position of `decode`."""
        projected_y = self.layers[0].project_inputs(
            self._embed(self.target_embedding, tokens, None)
        )
        cache, (h_tilde, _) = self._step(
            make_matmul(self._weights()), self._consts(memory), cache, (projected_y, position, None)
        )
        return output_logits(h_tilde, self.output_embedding), cache
