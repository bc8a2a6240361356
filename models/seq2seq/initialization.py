"""Initial weights of the recurrent encoder-decoders, as in their papers."""

import zlib
from typing import Literal, get_args

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import PRNGKeyArray

from models.layers import FACTORS, weight_names

Initialization = Literal["glorot", "bahdanau", "luong"]


def initialize(model: nnx.Module, name: Initialization, key: PRNGKeyArray) -> None:
    """Replace the weights of a newly constructed model.

    Factors, the gain of a layer norm and the key strength of the content score, keep their values.

    - `glorot` keeps the weights: Glorot's for most matrices, orthogonal recurrent matrices,
      embeddings N(0, 1) and an output embedding N(0, 1 / D), D its width.
    - `bahdanau` (Bahdanau et al. 2015, app. B.1): recurrent matrices stay orthogonal, W_a and U_a
      of the additive score are N(0, 0.001^2), v_a and all biases are 0, the rest is N(0, 0.01^2).
    - `luong` (Luong et al. 2015, sec. 4.1): all weights are U(-0.1, 0.1), biases included.

    Raises:
        ValueError: if the name is unknown.
    """
    if name not in get_args(Initialization):
        known = ", ".join(get_args(Initialization))
        raise ValueError(f"initialization must be one of {known}, not {name!r}")
    if name == "glorot":
        return

    def sample(path, value):
        names = weight_names(path)
        if FACTORS & {*names}:
            return value
        leaf_key = jax.random.fold_in(key, _hash("/".join(names)))
        if name == "luong":
            return jax.random.uniform(leaf_key, value.shape, value.dtype, -0.1, 0.1)
        if {"recurrent", "gates", "candidate"} & {*names}:
            return value
        if any(part.endswith("bias") for part in names) or "vector" in names:
            return jnp.zeros_like(value)
        of_score = "attention_layer" in names and {"query", "key"} & {*names}
        return (0.001 if of_score else 0.01) * jax.random.normal(leaf_key, value.shape, value.dtype)

    state = nnx.state(model, nnx.Param)
    nnx.update(model, jax.tree_util.tree_map_with_path(sample, state))


def _hash(text: str) -> int:
    """Return a hash of a name, the same in every process."""
    return zlib.crc32(text.encode())
