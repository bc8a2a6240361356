"""RNNsearch of Bahdanau et al. 2015: attention inside the recurrence, and a maxout readout."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, PRNGKeyArray

from attention import affine
from models.layers import dropout, glorot, param, split_key
from models.recurrence import GRU, Product, gru_cell, product_by, scan
from models.seq2seq.attention_layer import Aligned
from models.seq2seq.base import Memory, Options, Seq2Seq, batch_major, draw_at


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
            product, params, source, state, positions, draw_at(draw, position)
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
        states, contexts, aligned = batch_major(outputs)
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
