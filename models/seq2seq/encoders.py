"""Encoders of the recurrent models: embedded tokens to annotations and a summary."""

from typing import Literal, get_args

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Bool, Float, PRNGKeyArray

from attention import affine, masks
from models.layers import dropout, glorot, param, sinusoids, split_key
from models.recurrence import GRU, LSTM, unroll
from models.transformer_layers import EncoderLayer

EncoderName = Literal["gru", "lstm", "self_attention"]
Direction = Literal["forward", "reverse", "both"]


class RecurrentEncoder(nnx.Module):
    """Stack of GRU or LSTM layers.

    Args:
        layer: `GRU` or `LSTM`.
        embedding: width of the inputs.
        width: M, width of the annotations; each of two directions contributes half.
        layers: number of layers.
        direction: `forward`; `reverse`, the reversed source of Sutskever et al. 2014; or `both`
            (Schuster & Paliwal 1997; Bahdanau et al. 2015, sec. 3.2).
        rate: dropout rate on the inputs of each layer but the first.
        key: PRNG key of the weights.

    Raises:
        ValueError: if the direction is unknown or two directions have an odd width.
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
            raise ValueError(f"the width of a bidirectional encoder must be even, not {width}")
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
        """Return the annotations, and the final states of the last layer as the summary."""
        summary = x
        for n, (directions, layer_key) in enumerate(
            zip(self.layers, split_key(key, len(self.layers)), strict=True)
        ):
            x = dropout(x, self.rate if n else 0.0, layer_key)
            outputs, carries = zip(
                *(
                    unroll(layer, x, valid, reverse=reverse)
                    for layer, reverse in zip(directions, self.reversed, strict=True)
                ),
                strict=True,
            )
            x = jnp.concatenate(outputs, axis=-1)
            # The first leaf of a carry is the hidden state.
            summary = jnp.concatenate([jax.tree.leaves(carry)[0] for carry in carries], axis=-1)
        return x, summary


class SelfAttentionEncoder(nnx.Module):
    """Post-norm encoder layers of the Transformer in place of recurrent layers.

    Args:
        embedding: width of the inputs.
        width: M, width of the annotations.
        layers: number of layers.
        rate: dropout rate on the outputs of the sub-layers.
        key: PRNG key of the weights.

    Raises:
        ValueError: if the width is not a multiple of the number of heads.
    """

    HEADS = 4

    def __init__(self, embedding: int, width: int, layers: int, rate: float, *, key: PRNGKeyArray):
        if width % self.HEADS:
            raise ValueError(
                f"the width of a self-attention encoder must be a multiple of {self.HEADS}, the "
                f"number of heads, not {width}"
            )
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
        """Return the annotations, and their mean over unpadded positions as the summary."""
        x = affine(x, self.input[...])
        x = x + sinusoids(x.shape[1], x.shape[2]).astype(x.dtype)
        mask = masks.padding(valid)[:, None]
        for layer, layer_key in zip(self.layers, split_key(key, len(self.layers)), strict=True):
            x, _ = layer(x, mask, key=layer_key)
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
) -> RecurrentEncoder | SelfAttentionEncoder:
    """Create an encoder: `gru`, `lstm`, or `self_attention`, which ignores `direction`.

    Raises:
        ValueError: if the kind or direction is unknown, or the width is not divisible by the
            number of directions or heads.
    """
    if kind == "self_attention":
        return SelfAttentionEncoder(embedding, width, layers, rate, key=key)
    cells: dict[str, type[GRU | LSTM]] = {"gru": GRU, "lstm": LSTM}
    if kind not in cells:
        raise ValueError(f"encoder must be one of {', '.join(get_args(EncoderName))}, not {kind!r}")
    return RecurrentEncoder(cells[kind], embedding, width, layers, direction, rate, key=key)
