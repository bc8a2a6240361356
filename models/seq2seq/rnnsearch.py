"""RNNsearch of Bahdanau et al. 2015: attention inside the recurrence, and a maxout readout."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, PRNGKeyArray

from attention import affine
from models.attention_layer import AlignmentOutput, sampling_at
from models.layers import dropout, glorot, output_logits, param, split_key
from models.recurrence import GRU, MatMul, gru_cell, make_matmul, rnn_scan, to_batch_major
from models.seq2seq.base import Memory, Options, Seq2Seq
from models.seq2seq.initialization import Initialization, initialize


class RNNsearch(Seq2Seq):
    """Encoder-decoder of Bahdanau et al. 2015, sec. 3.1 and app. A.2.2.

        c_i  = sum_j alpha_ij h_j
        s_i  = GRU(s_{i-1}, W E y_{i-1} + C c_i)
        t~_i = U_o s_{i-1} + V_o E y_{i-1} + C_o c_i
        t_i  = [max(t~_i,2j-1, t~_i,2j)]_j
        p(y_i | y_1 .. y_{i-1}, x) = softmax(W_o t_i)

    where alpha_i is the alignment of s_{i-1} with the annotations h_j.

    Deviations: the initial state s_0 is computed from the last states of both directions, not of
    the backward direction only; W_o has no bias.

    Args: those of `Seq2Seq`, `maxout`, the width of t_i, and the `initialization`, see
    `models.seq2seq.initialization`.
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
        initialization: Initialization,
        key: PRNGKeyArray,
    ):
        key, *keys = jax.random.split(key, 4)
        super().__init__(
            vocabulary=vocabulary,
            embedding=embedding,
            hidden=hidden,
            initial_width=hidden,
            output_width=maxout,
            encoder=encoder,
            attention=attention,
            dropout=dropout,
            dtype=dtype,
            key=key,
        )
        e, m, h = embedding, encoder["width"], hidden
        self.cell = GRU(e, h, key=keys[0])
        self.context = param(glorot(keys[1], (m, 3 * h), m, h), ("embed", "mlp"))  # C, C_z, C_r
        width = e + m + h
        # Rows of U_o, then V_o, then C_o.
        self.readout = param(glorot(keys[2], (width, 2 * maxout), width, maxout), ("embed", "mlp"))
        self.readout_bias = param(jnp.zeros(2 * maxout), ("mlp",))
        initialize(self, initialization, key)

    def _weights(self):
        return {
            **self.cell.weights(),
            **self.attention_layer.weights(),
            "context": self.context[...],
        }

    def _step(self, matmul: MatMul, consts, s_prev: Float[Array, "B W H"], x):
        """Compute s_i; also return s_{i-1}, c_i and alpha_i, which the readout needs."""
        memory, params = consts
        projected_y, i = x  # W E y_{i-1} and the position i
        positions = jnp.broadcast_to(i, s_prev.shape[1:2])
        c, alpha = self.attention_layer(
            matmul, params, memory.source, s_prev, positions, sampling_at(memory.sampling, i)
        )
        s = gru_cell(matmul, projected_y + matmul("context", c), s_prev)
        return s, (s_prev, c, alpha)

    def _readout(self, s_prev, y_prev, c, key):
        """Compute t_i from s_{i-1}, E y_{i-1} and c_i."""
        inputs = jnp.concatenate([s_prev, y_prev, c], axis=-1)
        t_tilde = affine(inputs, self.readout[...], self.readout_bias[...])
        t = t_tilde.reshape(*t_tilde.shape[:-1], -1, 2).max(-1)
        return dropout(t, self.rate, key)

    def decode(
        self, target: Int[Array, "B T"], memory: Memory, key: PRNGKeyArray | None = None
    ) -> tuple[Float[Array, "B T D"], AlignmentOutput]:
        """Decode as in `Seq2Seq`, by one scan over the target positions."""
        key_input, key_output = split_key(key, 2)
        y_prev = self._embed_shifted(target, key_input)
        projected_y = jnp.swapaxes(self.cell.project_inputs(y_prev), 0, 1)[:, :, None]
        consts = memory, self.attention_layer.broadcast_params(len(target))
        s_0, xs = memory.initial_state[:, None], (projected_y, jnp.arange(target.shape[1]))
        _, outputs = rnn_scan(self._step, self._weights(), consts, s_0, xs)
        s_prev, c, alpha = to_batch_major(outputs)
        return self._readout(s_prev, y_prev, c, key_output), alpha

    def init_cache(self, memory: Memory, beams: int, length: int) -> Float[Array, "B W H"]:
        """Return the initial state s_0 of every beam."""
        del length
        return jnp.repeat(memory.initial_state[:, None], beams, axis=1)

    def decode_step(
        self,
        tokens: Int[Array, "B W"],
        cache: Float[Array, "B W H"],
        memory: Memory,
        position: Int[Array, ""],
    ) -> tuple[Float[Array, "B W V"], Float[Array, "B W H"]]:
        """Decode one target position of every beam, equal to the same position of `decode`."""
        y_prev = self._embed(self.target_embedding, tokens, None)
        s, (s_prev, c, _) = self._step(
            make_matmul(self._weights()),
            (memory, self.attention_layer.broadcast_params(len(tokens))),
            cache,
            (self.cell.project_inputs(y_prev), position),
        )
        return output_logits(self._readout(s_prev, y_prev, c, None), self.output_embedding), s
