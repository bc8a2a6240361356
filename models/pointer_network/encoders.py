"""Encoders of points: annotations of each, and the state in which a decoder starts."""

from typing import Literal, get_args

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float, Int, PRNGKeyArray

import attention
from attention import affine, masks
from models.layers import glorot, param
from models.packing import Rows
from models.recurrence import LSTM, product_by, scan
from models.transformer import EncoderLayer

EncoderName = Literal["lstm", "set", "transformer"]


class RecurrentEncoder(nnx.Module):
    """One layer of LSTM over the points in the order they come in (Vinyals et al. 2015)."""

    def __init__(self, hidden: int, *, key: PRNGKeyArray):
        self.lstm = LSTM(2, hidden, key=key)

    def __call__(self, points: Float[Array, "B N 2"], count: Int[Array, ""]):
        """Annotations `[B, N, H]`, and the last hidden and cell state."""
        start = self.lstm.start(len(points), points.dtype)
        return run_lstm(self.lstm, self.lstm.drive(by_time(points)), start, count)


class SetEncoder(nnx.Module):
    """Points one by one, and an LSTM that reads them by attention: their order cannot matter.

    Source: Vinyals et al. 2016, "Order Matters: Sequence to sequence for sets", sec. 4.2, the
    blocks "read" and "process". Every point's annotation is of two layers. Deviation: each step
    reads, then moves, so that the first reads the mean, and nothing is read after the last.

    Args:
        hidden: H.
        layers: steps of the process block.
        key: makes the weights.
    """

    def __init__(self, hidden: int, layers: int, *, key: PRNGKeyArray):
        keys = jax.random.split(key, 3)
        self.input = param(glorot(keys[0], (2, hidden), 2, hidden), (None, "mlp"))
        self.input_bias = param(jnp.zeros(hidden), ("mlp",))
        self.inner = param(glorot(keys[1], (hidden, hidden), hidden, hidden), ("embed", "mlp"))
        self.inner_bias = param(jnp.zeros(hidden), ("mlp",))
        self.process = LSTM(hidden, hidden, key=keys[2])
        self.steps = layers

    def __call__(self, points: Float[Array, "B N 2"], count: Int[Array, ""]):
        """Annotations `[B, N, H]`, and the hidden and cell state after the last step."""
        x = jax.nn.relu(affine(points, self.input[...], self.input_bias[...]))
        x = jnp.tanh(affine(x, self.inner[...], self.inner_bias[...]))
        mask = jnp.arange(x.shape[1])[None] < count
        hidden, cell = self.process.start(len(x), x.dtype)
        product = product_by(self.process.weights())
        for _ in range(self.steps):
            context, _ = attention.attend(
                hidden[:, None], x, x, score=attention.scaled_dot, mask=mask
            )
            drive = self.process.drive(context[:, 0])
            (hidden, cell), _ = self.process.step(product, drive, (hidden, cell))
        return x, (hidden, cell)


class TransformerEncoder(nnx.Module):
    """Layers of self-attention without positions; their mean is where the decoder starts.

    After Kool et al. 2019, "Attention, Learn to Solve Routing Problems!", sec. 3.1, with layer for
    batch normalisation, after each sub-layer as there.

    Args:
        hidden: H.
        layers: how many.
        heads: of each layer.
        key: makes the weights.
    """

    def __init__(self, hidden: int, layers: int, heads: int, *, key: PRNGKeyArray):
        if hidden % heads:
            raise ValueError(f"{heads} heads cannot share a width of {hidden}")
        keys = jax.random.split(key, layers + 2)
        # Without a bias, of about the size of the rest, a norm would leave of a point its direction
        # from the origin, and not how far it is.
        first = jax.random.uniform(keys[0], (3, hidden), minval=-(0.5**0.5), maxval=0.5**0.5)
        self.input = param(first[:2], (None, "embed"))
        self.input_bias = param(first[2], ("embed",))
        self.summary = param(glorot(keys[1], (hidden, hidden), hidden, hidden), ("embed", None))
        head = hidden // heads
        sizes = (hidden, heads, head, head, 4 * hidden)
        self.layers = nnx.List(EncoderLayer(*sizes, "post", 0.0, key=k) for k in keys[2:])

    def __call__(self, points: Float[Array, "B N 2"], count: Int[Array, ""]):
        """Annotations `[B, N, H]`, and a hidden and a cell state."""
        x = affine(points, self.input[...], self.input_bias[...])
        present = jnp.broadcast_to(jnp.arange(x.shape[1]) < count, x.shape[:2])
        mask, rows = masks.padding(present)[:, None], Rows.of(present, block=0)
        x = rows.pack(x)
        for layer in self.layers:
            x, _ = layer(x, rows, mask, "xla", None)
        x = rows.unpack(x)
        mean = jnp.sum(jnp.where(present[..., None], x, 0.0), axis=1) / count
        state = jnp.tanh(affine(mean, self.summary[...]))
        return x, (state, state)


def make_encoder(
    hidden: int, *, kind: EncoderName, layers: int, heads: int, key: PRNGKeyArray
) -> RecurrentEncoder | SetEncoder | TransformerEncoder:
    """The encoder of that kind.

    Args:
        hidden: H.
        kind: `lstm`, `set` or `transformer`.
        layers: steps of a set encoder, layers of a Transformer; an LSTM has one.
        heads: of a Transformer's layers; 1 for the others.
        key: makes the weights.

    Raises:
        ValueError: an unknown kind, or layers or heads that it does not have.
    """
    if kind == "lstm" and layers == heads == 1:
        return RecurrentEncoder(hidden, key=key)
    if kind == "set" and heads == 1:
        return SetEncoder(hidden, layers, key=key)
    if kind == "transformer":
        return TransformerEncoder(hidden, layers, heads, key=key)
    if kind not in get_args(EncoderName):
        raise ValueError(f"encoder must be one of {', '.join(get_args(EncoderName))}, not {kind!r}")
    raise ValueError(f"an encoder of kind {kind!r} has no {layers} layers of {heads} heads")


def run_lstm(
    lstm: LSTM,
    drives: Float[Array, "T B G"],
    start: tuple[Float[Array, "B H"], Float[Array, "B H"]],
    steps: Int[Array, ""],
) -> tuple[Float[Array, "B T H"], tuple[Float[Array, "B H"], Float[Array, "B H"]]]:
    """The first `steps` steps of an LSTM: outputs, zeros after them, and the last state.

    What adds to the gates comes by time: of all arrays here it is the largest, and best not moved.
    """

    def step(product, consts, carry, drive):
        del consts
        return lstm.step(product, drive, carry)

    last, outputs = scan(step, lstm.weights(), None, start, drives, steps)
    return by_time(outputs), last


def by_time(x: Float[Array, "B T D"]) -> Float[Array, "T B D"]:
    """Time first, or first no more."""
    return jnp.swapaxes(x, 0, 1)
