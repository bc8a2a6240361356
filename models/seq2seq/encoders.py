"""Encoders of the recurrent models: from embedded tokens to annotations and a summary."""

from typing import Literal, get_args

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Bool, Float, PRNGKeyArray

from attention import affine, masks
from models.layers import dropout, glorot, param, sinusoids, split_key
from models.packing import Rows
from models.recurrence import GRU, LSTM, run
from models.transformer import EncoderLayer

EncoderName = Literal["gru", "lstm", "self_attention"]
Direction = Literal["forward", "reverse", "both"]


class RecurrentEncoder(nnx.Module):
    """Layers of GRU or LSTM.

    Args:
        layer: `GRU` or `LSTM`.
        embedding: width of the inputs.
        width: M, of the annotations; of two directions, each gets half.
        layers: how many; each reads the annotations of the one below.
        direction: `forward`; `reverse`, which Sutskever et al. 2014 found easier to translate from;
            or `both` (Schuster & Paliwal 1997; Bahdanau et al. 2015, sec. 3.2).
        rate: of dropout on the inputs of each layer but the first.
        key: makes the weights.
    """

    def __init__(
        self,
        layer: type[GRU | LSTM],
        embedding: int,
        width: int,
        layers: int,
        direction: Direction,
        rate: float,
        *,
        key: PRNGKeyArray,
    ):
        if direction not in get_args(Direction):
            known = ", ".join(get_args(Direction))
            raise ValueError(f"direction must be one of {known}, not {direction!r}")
        if direction == "both" and width % 2:
            raise ValueError(f"an annotation of {width} cannot be halved between two directions")
        self.reversed = {"forward": (False,), "reverse": (True,), "both": (False, True)}[direction]
        hidden = width // len(self.reversed)
        self.layers = nnx.List(
            nnx.List(
                layer(embedding if n == 0 else width, hidden, key=k)
                for k in jax.random.split(layer_key, len(self.reversed))
            )
            for n, layer_key in enumerate(jax.random.split(key, layers))
        )
        self.rate = rate

    def __call__(
        self, x: Float[Array, "B S D"], valid: Bool[Array, "B S"], key: PRNGKeyArray | None
    ) -> tuple[Float[Array, "B S M"], Float[Array, "B M"]]:
        """Annotations, and the last state of each direction of the last layer."""
        summary = x
        for n, (directions, layer_key) in enumerate(
            zip(self.layers, split_key(key, len(self.layers)), strict=True)
        ):
            x = dropout(x, self.rate if n else 0.0, layer_key)
            ran = [
                run(layer, x, valid, reverse=reverse)
                for layer, reverse in zip(directions, self.reversed, strict=True)
            ]
            x = jnp.concatenate([outputs for outputs, _ in ran], axis=-1)
            summary = jnp.concatenate([jax.tree.leaves(last)[0] for _, last in ran], axis=-1)
        return x, summary


class SelfAttentiveEncoder(nnx.Module):
    """Intra-attention in the place of recurrence: the Transformer's encoder layers, post-norm."""

    HEADS = 4

    def __init__(self, embedding: int, width: int, layers: int, rate: float, *, key: PRNGKeyArray):
        if width % self.HEADS:
            raise ValueError(f"an annotation of {width} cannot be shared by {self.HEADS} heads")
        key_input, key_layers = jax.random.split(key)
        self.input = param(glorot(key_input, (embedding, width), embedding, width), (None, "embed"))
        head = width // self.HEADS
        self.layers = nnx.List(
            EncoderLayer(width, self.HEADS, head, head, 4 * width, "post", rate, key=k)
            for k in jax.random.split(key_layers, layers)
        )

    def __call__(
        self, x: Float[Array, "B S D"], valid: Bool[Array, "B S"], key: PRNGKeyArray | None
    ) -> tuple[Float[Array, "B S M"], Float[Array, "B M"]]:
        """Annotations, and their mean."""
        x = affine(x, self.input[...])
        x = x + sinusoids(x.shape[1], x.shape[2]).astype(x.dtype)
        mask, rows = masks.padding(valid)[:, None], Rows.of(valid, block=0)
        x = rows.pack(x)
        for layer, layer_key in zip(self.layers, split_key(key, len(self.layers)), strict=True):
            x, _ = layer(x, rows, mask, "xla", layer_key)
        x = rows.unpack(x)
        count = jnp.maximum(valid.sum(-1, keepdims=True), 1).astype(x.dtype)
        return x, jnp.sum(jnp.where(valid[..., None], x, 0.0), axis=1) / count


def make_encoder(
    embedding: int,
    *,
    kind: EncoderName,
    width: int,
    layers: int,
    direction: Direction,
    rate: float,
    key: PRNGKeyArray,
) -> RecurrentEncoder | SelfAttentiveEncoder:
    """The encoder of that kind: `gru`, `lstm` or `self_attention`, which has no direction.

    Raises:
        ValueError: an unknown kind or direction, or a width that does not divide.
    """
    if kind == "self_attention":
        return SelfAttentiveEncoder(embedding, width, layers, rate, key=key)
    cells: dict[str, type[GRU | LSTM]] = {"gru": GRU, "lstm": LSTM}
    if kind not in cells:
        raise ValueError(f"encoder must be one of {', '.join(get_args(EncoderName))}, not {kind!r}")
    return RecurrentEncoder(cells[kind], embedding, width, layers, direction, rate, key=key)
