"""Encoders of point sets: annotations e_j of the points and the initial state of the decoder."""

from typing import Literal, NamedTuple, get_args

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float, Int, PRNGKeyArray

import attention
from attention import affine, masks
from models.layers import glorot, param
from models.recurrence import LSTM, make_matmul, rnn_scan
from models.transformer_layers import EncoderLayer

EncoderName = Literal["lstm", "set", "transformer"]


class Encoded(NamedTuple):
    """Output of an encoder."""

    annotations: Float[Array, "B N H"]  # e_j
    state: tuple[Float[Array, "B H"], Float[Array, "B H"]]  # hidden and cell state of the decoder


class LSTMEncoder(nnx.Module):
    """LSTM with one layer over the points in input order (Vinyals et al. 2015, sec. 2.1)."""

    def __init__(self, hidden: int, *, key: PRNGKeyArray):
        self.lstm = LSTM(2, hidden, key=key)

    def __call__(self, points: Float[Array, "B N 2"], count: Int[Array, ""]) -> Encoded:
        """Encode the first `count` points; annotations of the others are zero."""
        carry = self.lstm.init_carry(len(points), points.dtype)
        projected = self.lstm.project_inputs(jnp.swapaxes(points, 0, 1))
        return Encoded(*run_lstm(self.lstm, projected, carry, count))


class SetEncoder(nnx.Module):
    """Per-point network and an LSTM that attends to its outputs, invariant to input order.

    Source: Vinyals et al. 2016, "Order Matters: Sequence to sequence for sets", sec. 4.2, blocks
    "read" (two layers here) and "process". Deviation: each processing step attends first and then
    updates the LSTM, so that the first step attends with the zero state (uniform weights) and no
    read follows the last update.

    Args:
        hidden: H.
        layers: number of processing steps.
        key: PRNG key of the weights.
    """

    def __init__(self, hidden: int, layers: int, *, key: PRNGKeyArray):
        keys = jax.random.split(key, 3)
        self.input = param(glorot(keys[0], (2, hidden), 2, hidden), (None, "mlp"))
        self.input_bias = param(jnp.zeros(hidden), ("mlp",))
        self.inner = param(glorot(keys[1], (hidden, hidden), hidden, hidden), ("embed", "mlp"))
        self.inner_bias = param(jnp.zeros(hidden), ("mlp",))
        self.process = LSTM(hidden, hidden, key=keys[2])
        self.steps = layers

    def __call__(self, points: Float[Array, "B N 2"], count: Int[Array, ""]) -> Encoded:
        """Encode the first `count` points."""
        x = jax.nn.relu(affine(points, self.input[...], self.input_bias[...]))
        x = jnp.tanh(affine(x, self.inner[...], self.inner_bias[...]))
        mask = jnp.arange(x.shape[1])[None] < count
        hidden, cell = self.process.init_carry(len(x), x.dtype)
        matmul = make_matmul(self.process.weights())
        for _ in range(self.steps):
            context, _ = attention.attend(
                hidden[:, None], x, x, score=attention.scaled_dot, mask=mask
            )
            projected = self.process.project_inputs(context[:, 0])
            (hidden, cell), _ = self.process.step(matmul, projected, (hidden, cell))
        return Encoded(x, (hidden, cell))


class TransformerPointEncoder(nnx.Module):
    """Transformer encoder without positional encodings, equivariant to the order of the points.

    Source: Kool et al. 2019, "Attention, Learn to Solve Routing Problems!", sec. 3.1. Deviation:
    layer normalization instead of batch normalization, at the same positions (post-norm); Glorot
    initialization, and biases in the attention.

    Args:
        hidden: H.
        layers: number of layers.
        heads: number of heads per layer.
        key: PRNG key of the weights.

    Raises:
        ValueError: if H is not a multiple of the number of heads.
    """

    def __init__(self, hidden: int, layers: int, heads: int, *, key: PRNGKeyArray):
        if hidden % heads:
            raise ValueError(f"hidden={hidden} must be a multiple of heads={heads}")
        # The second key initializes the summary of the subclass `TransformerEncoder`.
        key_input, _, *layer_keys = jax.random.split(key, layers + 2)
        # The bias is initialized to the scale of the kernel, because without a bias the layer norm
        # removes the distance of a point from the origin.
        limit = 0.5**0.5
        kernel_and_bias = jax.random.uniform(key_input, (3, hidden), minval=-limit, maxval=limit)
        self.input = param(kernel_and_bias[:2], (None, "embed"))
        self.input_bias = param(kernel_and_bias[2], ("embed",))
        head = hidden // heads
        sizes = (hidden, heads, head, head, 4 * hidden)
        self.layers = nnx.List(EncoderLayer(*sizes, "post", 0.0, key=k) for k in layer_keys)

    def annotate(
        self, points: Float[Array, "B N 2"], count: Int[Array, ""]
    ) -> tuple[Float[Array, "B N H"], Float[Array, "B H"]]:
        """Encode the first `count` points; return their annotations and the mean of these.

        The annotations of the other points are undefined.
        """
        x = affine(points, self.input[...], self.input_bias[...])
        present = jnp.broadcast_to(jnp.arange(x.shape[1]) < count, x.shape[:2])
        mask = masks.padding(present)[:, None]
        for layer in self.layers:
            x, _ = layer(x, mask)
        return x, jnp.sum(jnp.where(present[..., None], x, 0.0), axis=1) / count


class TransformerEncoder(TransformerPointEncoder):
    """Transformer encoder for an LSTM decoder, which starts from a projection of the mean.

    For arguments and errors, see the base class.
    """

    def __init__(self, hidden: int, layers: int, heads: int, *, key: PRNGKeyArray):
        super().__init__(hidden, layers, heads, key=key)
        key_summary = jax.random.split(key, layers + 2)[1]
        self.summary = param(glorot(key_summary, (hidden, hidden), hidden, hidden), ("embed", None))

    def __call__(self, points: Float[Array, "B N 2"], count: Int[Array, ""]) -> Encoded:
        """Encode the first `count` points; hidden and cell state of the decoder are equal."""
        annotations, mean = self.annotate(points, count)
        state = jnp.tanh(affine(mean, self.summary[...]))
        return Encoded(annotations, (state, state))


def make_encoder(
    hidden: int, *, kind: EncoderName, layers: int, heads: int, key: PRNGKeyArray
) -> LSTMEncoder | SetEncoder | TransformerEncoder:
    """Create an encoder by name.

    Args:
        hidden: H.
        kind: 'lstm', 'set' or 'transformer'.
        layers: number of Transformer layers or of processing steps of the set encoder; 1 for an
            LSTM.
        heads: number of heads of the Transformer; 1 for the other encoders.
        key: PRNG key of the weights.

    Raises:
        ValueError: for an unknown kind, or an unsupported number of layers or heads.
    """
    if kind not in get_args(EncoderName):
        raise ValueError(f"encoder must be one of {', '.join(get_args(EncoderName))}, not {kind!r}")
    if kind == "transformer":
        return TransformerEncoder(hidden, layers, heads, key=key)
    if heads != 1:
        raise ValueError(f"encoder {kind!r} must have heads=1, not {heads}")
    if kind == "set":
        return SetEncoder(hidden, layers, key=key)
    if layers != 1:
        raise ValueError(f"encoder {kind!r} must have layers=1, not {layers}")
    return LSTMEncoder(hidden, key=key)


def run_lstm(
    lstm: LSTM,
    projected: Float[Array, "T B G"],
    carry: tuple[Float[Array, "B H"], Float[Array, "B H"]],
    steps: Int[Array, ""],
) -> tuple[Float[Array, "B T H"], tuple[Float[Array, "B H"], Float[Array, "B H"]]]:
    """Run the first `steps` steps of an LSTM.

    Args:
        lstm: the layer.
        projected: projected inputs, time-major, because a transposition of this array, the largest
            one here, would cost memory traffic.
        carry: initial hidden and cell state.
        steps: number of steps, at most T; may be traced.

    Returns:
        Outputs, zero beyond `steps`, and the final hidden and cell state.
    """

    def step(matmul, consts, carry, projected):
        del consts
        return lstm.step(matmul, projected, carry)

    carry, outputs = rnn_scan(step, lstm.weights(), None, carry, projected, steps)
    return jnp.swapaxes(outputs, 0, 1), carry
