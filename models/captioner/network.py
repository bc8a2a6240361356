"""Caption generator of Xu et al. 2015: an LSTM that attends to positions of an image."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float, Int, PRNGKeyArray

from attention import affine
from models.attention_layer import (
    AlignmentOutput,
    AttentionLayer,
    ProjectedSource,
    SamplingState,
    sampling_at,
    sampling_of_all,
)
from models.captioner.encoders import make_encoder
from models.layers import (
    activation_dtype,
    dropout,
    glorot,
    output_logits,
    output_table,
    param,
    shift_right,
    split_key,
)
from models.recurrence import (
    LSTM,
    MatMul,
    append_bias,
    append_one,
    lstm_cell,
    make_matmul,
    rnn_scan,
    to_batch_major,
)

Options = Any  # keyword arguments, as a dict or a ConfigDict
LSTMState = tuple[Float[Array, "B W H"], Float[Array, "B W H"]]  # h_t and c_t


class Memory(NamedTuple):
    """Encoder outputs that the decoder reads."""

    source: ProjectedSource
    initial_state: tuple[Float[Array, "B H"], Float[Array, "B H"]]  # h_0 and c_0
    sampling: SamplingState | None  # `None` if no alignments are sampled


class Captioner(nnx.Module):
    """Caption generator (Xu et al. 2015, sec. 3.1 and 4).

    With annotations a_1 .. a_P and their mean a:

        h_0, c_0 = tanh(W_h a + b_h), tanh(W_c a + b_c)
        alpha_t  = alignment of h_{t-1} with the annotations
        beta_t   = sigmoid(f_beta(h_{t-1}))
        z_t      = beta_t sum_i alpha_ti a_i
        h_t, c_t = LSTM(E y_{t-1}, h_{t-1}, z_t)
        p(y_t | a, y_1 .. y_{t-1}) = softmax(L_o (E y_{t-1} + L_h h_t + L_z z_t))

    Deviations: the LSTM has no peepholes, the forget gate's bias is initialized to one, and L_o has
    no bias. The gate beta_t, which the paper uses with soft attention only, is used with every
    alignment.

    Args:
        vocabulary: V; `pad` is token 0, `bos` token 1.
        embedding: width of the word embeddings.
        hidden: H, width of h_t.
        encoder: see `models.captioner.encoders.make_encoder`.
        attention: see `models.attention_layer.AttentionLayer`. Local alignments are rejected,
            because positions of an image are not ordered like words.
        dropout: rate of dropout on the word embeddings and on the input of L_o.
        dtype: dtype of the activations; weights and softmax stay in float32.
        key: PRNG key of the weights.

    Raises:
        ValueError: if an option is unknown or invalid.
    """

    pad, bos = 0, 1

    def __init__(
        self,
        *,
        vocabulary: int,
        embedding: int,
        hidden: int,
        encoder: Options,
        attention: Options,
        dropout: float,
        dtype: str,
        key: PRNGKeyArray,
    ):
        if attention["alignment"].startswith("local"):
            raise ValueError(
                f"attention.alignment={attention['alignment']!r} is for sequences; for images "
                "choose soft, hard, straight_through or none"
            )
        self.rate, self.dtype = dropout, activation_dtype(dtype)
        keys = jax.random.split(key, 10)
        self.encoder = make_encoder(key=keys[0], dtype=self.dtype, **encoder)
        v, e, h, d = vocabulary, embedding, hidden, self.encoder.width
        matrix = lambda key, rows, columns, fan_out=None: param(
            glorot(key, (rows, columns), rows, fan_out or columns), ("embed", "mlp")
        )
        self.embedding = param(0.1 * jax.random.normal(keys[1], (v, e)), ("vocab", "embed"))
        self.initial = matrix(keys[2], d, 2 * h, h)  # W_h, then W_c
        self.initial_bias = param(jnp.zeros(2 * h), ("mlp",))
        self.attention_layer = AttentionLayer(h, d, key=keys[3], **attention)
        self.gate = matrix(keys[4], h, 1)  # f_beta
        self.gate_bias = param(jnp.zeros(1), (None,))
        self.cell = LSTM(e, h, key=keys[5])
        self.context = matrix(keys[6], d, 4 * h, h)
        self.readout_hidden = matrix(keys[7], h, e)  # L_h
        self.readout_context = matrix(keys[8], d, e)  # L_z
        self.output = param(output_table(keys[9], v, e), ("vocab", "embed"))  # L_o

    @property
    def samples_attention(self) -> bool:
        """Whether the alignment is `hard`, so that training needs the REINFORCE loss term."""
        return self.attention_layer.alignment == "hard"

    @property
    def output_embedding(self) -> Float[Array, "V E"]:
        """Output embedding L_o: the logits are `states @ output_embedding.T`."""
        return self.output[...]

    def encode(self, images: Float[Array, "B ..."], key: PRNGKeyArray | None = None) -> Memory:
        """Encode images and project the keys of the attention layer.

        Args:
            images: `[B, R, R, C]` in [-1, 1], or features `[B, P, D]`, as the encoder requires.
            key: PRNG key of sampled alignments; `None` in evaluation.
        """
        annotations = self.encoder(images)
        mean = annotations.mean(1)
        initial = jnp.tanh(affine(mean, self.initial[...], self.initial_bias[...]))
        valid = jnp.ones(annotations.shape[:2], bool)
        source = self.attention_layer.project(annotations, mean, valid)
        sampling = self.attention_layer.init_sampling(key, len(images))
        hidden, cell = jnp.split(initial, 2, axis=-1)
        return Memory(source, (hidden, cell), sampling)

    def with_sampling(self, memory: Memory, key: PRNGKeyArray) -> Memory:
        """Return the memory with alignments sampled for every image, also in evaluation."""
        return memory._replace(sampling=sampling_of_all(key, len(memory.source.values)))

    def decode(
        self, captions: Int[Array, "B T"], memory: Memory, key: PRNGKeyArray | None = None
    ) -> tuple[Float[Array, "B T E"], AlignmentOutput]:
        """Decode all positions with teacher forcing: position t depends on the words before t.

        Args:
            captions: `[B, T]` tokens, unshifted, padded with `pad`.
            memory: from `encode`.
            key: PRNG key for dropout; `None` in evaluation.

        Returns:
            The inputs of L_o and the alignment.
        """
        key_input, key_output = split_key(key, 2)
        y_prev = dropout(self._embed(shift_right(captions, self.bos)), self.rate, key_input)
        projected_y = jnp.swapaxes(self.cell.project_inputs(y_prev), 0, 1)[:, :, None]
        consts = memory, self.attention_layer.broadcast_params(len(captions))
        xs = projected_y, jnp.arange(captions.shape[1])
        state = self.init_cache(memory, 1, captions.shape[1])
        _, outputs = rnn_scan(self._step, self._weights(), consts, state, xs)
        h, z, alpha = to_batch_major(outputs)
        return dropout(self._readout(y_prev, h, z), self.rate, key_output), alpha

    def init_cache(self, memory: Memory, beams: int, length: int) -> LSTMState:
        """Return the initial LSTM state of every beam."""
        del length
        hidden, cell = (jnp.repeat(x[:, None], beams, axis=1) for x in memory.initial_state)
        return hidden, cell

    def decode_step(
        self,
        tokens: Int[Array, "B W"],
        cache: LSTMState,
        memory: Memory,
        position: Int[Array, ""],
    ) -> tuple[Float[Array, "B W V"], LSTMState]:
        """Decode one word of every beam, equal to the same position of `decode`."""
        y_prev = self._embed(tokens)
        cache, (h, z, _) = self._step(
            make_matmul(self._weights()),
            (memory, self.attention_layer.broadcast_params(len(tokens))),
            cache,
            (self.cell.project_inputs(y_prev), position),
        )
        return output_logits(self._readout(y_prev, h, z), self.output_embedding), cache

    def _embed(self, tokens):
        # The lookup precedes the cast, so that gradients of repeated words are summed in float32.
        return self.embedding[...][tokens].astype(self.dtype)

    def _weights(self):
        return {
            **self.cell.weights(),
            **self.attention_layer.weights(),
            "context": self.context[...],
            "gate": append_bias(self.gate[...], self.gate_bias[...]),
        }

    def _step(self, matmul: MatMul, consts, state: LSTMState, x):
        """Compute h_t and c_t; also return h_t, z_t and alpha_t, which the readout needs."""
        memory, params = consts
        projected_y, t = x
        h_prev, c_prev = state
        positions = jnp.broadcast_to(t, h_prev.shape[1:2])
        z, alpha = self.attention_layer(
            matmul, params, memory.source, h_prev, positions, sampling_at(memory.sampling, t)
        )
        beta = jax.nn.sigmoid(matmul("gate", append_one(h_prev)))
        z = beta * z
        preactivations = projected_y + matmul("recurrent", h_prev) + matmul("context", z)
        h, c = lstm_cell(preactivations, c_prev)
        return (h, c), (h, z, alpha)

    def _readout(self, y_prev, h, z):
        return y_prev + affine(h, self.readout_hidden[...]) + affine(z, self.readout_context[...])
