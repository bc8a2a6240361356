"""Layers that several models share. They hold weights only; PRNG keys are arguments."""

import math
from collections.abc import Callable
from functools import partial
from typing import Any, Literal, get_args

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax import lax
from jaxtyping import Array, Bool, Float, Int, Key, PRNGKeyArray, UInt32

from attention import KeyValues, affine, attend_heads, merge_heads, project_heads
from attention.masks import SegmentIds
from attention.multihead import Implementation
from models.device_batch import first_index

Axes = tuple[str | None, ...]
Remat = Literal["none", "dots", "full"]
FACTORS = {"gain", "key_strength"}  # names of the factors of layer norms and the content score


def param(value: Array, axes: Axes) -> nnx.Param:
    """Wrap a weight with the logical names of its axes, from which its sharding follows.

    Weights are float32, also if JAX's default is float64 (`JAX_ENABLE_X64`).
    """
    return nnx.Param(value.astype(jnp.float32), axes=axes)


def glorot(
    key: PRNGKeyArray, shape: tuple[int, ...], fan_in: int, fan_out: int
) -> Float[Array, "..."]:
    """Sample from U(-a, a) with a = sqrt(6 / (fan_in + fan_out)) (Glorot & Bengio 2010, eq. 16)."""
    limit = (6.0 / (fan_in + fan_out)) ** 0.5
    return jax.random.uniform(key, shape, jnp.float32, -limit, limit)


def weight_names(path: tuple[Any, ...]) -> list[str]:
    """Return the names in the path of a weight, as `jax.tree.flatten_with_path` has it."""
    return [str(getattr(entry, "key", getattr(entry, "name", entry))) for entry in path]


def split_key(key: PRNGKeyArray | None, parts: int) -> list[PRNGKeyArray | None]:
    """Split a key; without a key (no dropout), return `None` for each part."""
    return [None] * parts if key is None else list(jax.random.split(key, parts))


def activation_dtype(name: str) -> jnp.dtype:
    """Return the dtype of a model's activations, given its name.

    Raises:
        ValueError: if it is not a floating-point type that the models support.
    """
    if name not in ("float32", "bfloat16", "float16"):
        raise ValueError(f"dtype must be 'float32', 'bfloat16' or 'float16', not {name!r}")
    return jnp.dtype(name)


def check_remat(remat: str) -> None:
    """Check the name of a rematerialization policy.

    Raises:
        ValueError: if it is unknown.
    """
    if remat not in get_args(Remat):
        raise ValueError(f"remat must be 'none', 'dots' or 'full', not {remat!r}")


def rematerialize(layer: Callable[..., Any], remat: Remat) -> Callable[..., Any]:
    """Return a layer whose backward pass computes intermediate results again, to save memory.

    This has no effect on CPUs, where XLA merges the second computation with the first one.

    Args:
        layer: function of arrays, which may close over its weights.
        remat: `none` stores all intermediate results. `dots` stores the results of matrix products
            with weights, which are the most expensive to compute, but neither attention weights nor
            the results of elementwise operations. `full` stores only the inputs of the layer.
    """
    if remat == "none":
        return layer
    # Products of activations with each other, such as attention logits, have batch dimensions.
    keep_dots = jax.checkpoint_policies.dots_with_no_batch_dims_saveable
    return jax.checkpoint(layer, policy=keep_dots if remat == "dots" else None)


def hash_bits(
    key: PRNGKeyArray, shape: tuple[int, ...], first: int | Int[Array, ""] = 0
) -> UInt32[Array, "*B"]:
    """Random bits, the hash of each element's index, counted from `first`, and two words of `key`.

    Two rounds of a low-bias 32-bit mixer (Wellons 2018) over a Weyl sequence. Use it for dropout
    masks only, not for initialization or sampling: XLA fuses it into its consumer, whereas
    generating the bits by `jax.random` costs as much as a feed-forward layer on a CPU.
    """
    low, high = jax.random.bits(key, (2,), jnp.uint32)
    index = jnp.arange(math.prod(shape), dtype=jnp.uint32).reshape(shape)
    index = index + jnp.asarray(first, jnp.uint32)
    x = index * np.uint32(0x9E3779B9)
    for word in (low, high):
        x = x ^ word
        x = (x ^ (x >> 16)) * np.uint32(0x21F0AAAD)
        x = (x ^ (x >> 15)) * np.uint32(0xD35A2D97)
        x = x ^ (x >> 15)
    return x


def dropout(x: Float[Array, "*B"], rate: float, key: PRNGKeyArray | None) -> Float[Array, "*B"]:
    """Zero each element with probability `rate` and scale the others by 1 / (1 - rate).

    Without a key, as in evaluation, return `x` unchanged (Srivastava et al. 2014).

    Args:
        x: batch of any shape.
        rate: in [0, 1).
        key: PRNG key of the masks.
    """
    if key is None or rate == 0.0:
        return x
    first = first_index(len(x)) * math.prod(x.shape[1:])
    return _drop(x, rate, hash_bits(key, x.shape, first))


def dropout_of_examples(
    x: Float[Array, "B *D"], rate: float, keys: Key[Array, " B"] | None
) -> Float[Array, "B *D"]:
    """`dropout` with one PRNG key per example, on which alone the mask of the example depends."""
    if keys is None or rate == 0.0:
        return x
    return _drop(x, rate, jax.vmap(partial(hash_bits, shape=x.shape[1:]))(keys))


def _drop(x, rate, bits):
    return jnp.where(bits >= np.uint32(rate * 2**32), x / (1.0 - rate), 0.0).astype(x.dtype)


def sinusoids(length: int, width: int) -> Float[Array, "T D"]:
    """Sinusoidal positional encodings (Vaswani et al. 2017, sec. 3.5).

    Even channels are sines and odd channels are cosines.
    """
    position = np.arange(length)[:, None]
    angle = position / 10_000 ** (np.arange(0, width, 2) / width)
    table = np.stack([np.sin(angle), np.cos(angle)], axis=-1).reshape(length, -1)
    return jnp.asarray(table[:, :width], jnp.float32)


def shift_right(tokens: Int[Array, "*B T"], first: int) -> Int[Array, "*B T"]:
    """Shift tokens by one position, so that position t holds token t - 1 and position 0 `first`."""
    padding = [(0, 0)] * (tokens.ndim - 1) + [(1, 0)]
    return jnp.pad(tokens[..., :-1], padding, constant_values=first)


def output_logits(states: Float[Array, "*B D"], table: Float[Array, "V D"]) -> Float[Array, "*B V"]:
    """Logits `states @ table.T` of an output embedding, in float32."""
    table = table.astype(states.dtype)
    return jnp.einsum("...d,vd->...v", states, table, preferred_element_type=jnp.float32)


@partial(jax.custom_vjp, nondiff_argnums=(3, 4))
def layer_norm(
    x: Float[Array, "*B D"],
    gain: Float[Array, " D"],
    bias: Float[Array, " D"],
    epsilon: float,
    centered: bool = False,
) -> Float[Array, "*B D"]:
    """Layer normalization over the last axis (Ba et al. 2016, eq. 4), of float32 arrays.

    Sums over the last axis are products with vectors, because XLA's CPU backend vectorizes these,
    but not the sums. The VJP is written such that it needs no other sum over that axis.

    Args:
        x: `[*B, D]`.
        gain: `[D]`.
        bias: `[D]`.
        epsilon: added to the variance.
        centered: whether the mean of `x` over the last axis is 0, so that it is not computed; its
            gradient is then determined up to a constant over this axis.
    """
    return _layer_norm_forward(x, gain, bias, epsilon, centered)[0]


def _layer_norm_forward(x, gain, bias, epsilon, centered):
    average = jnp.full(x.shape[-1], 1 / x.shape[-1], x.dtype)
    mean = 0.0 if centered else _sum_of_products(x, average)
    scale = lax.rsqrt(_sum_of_products((x - mean) ** 2, average) + epsilon)
    return (x - mean) * scale * gain + bias, (x, mean, scale, gain)


def _layer_norm_backward(epsilon, centered, saved, dy):
    del epsilon
    x, mean, scale, gain = saved
    normalized = (x - mean) * scale
    weights = gain / x.shape[-1]
    projected = _sum_of_products(dy * normalized, weights)
    average = 0.0 if centered else _sum_of_products(dy, weights)
    dx = scale * (dy * gain - average - normalized * projected)
    positions = tuple(range(x.ndim - 1))
    return dx, (dy * normalized).sum(positions), dy.sum(positions)


layer_norm.defvjp(_layer_norm_forward, _layer_norm_backward)


def _sum_of_products(x, vector):
    """Return `(x * vector).sum(-1, keepdims=True)`."""
    return jnp.matmul(x, vector, precision="highest")[..., None]


class LayerNorm(nnx.Module):
    """Layer normalization with gain and bias (Ba et al. 2016), computed in float32."""

    def __init__(self, width: int, epsilon: float = 1e-6):
        self.gain = param(jnp.ones(width), ("embed",))
        self.bias = param(jnp.zeros(width), ("embed",))
        self.epsilon = epsilon

    def __call__(self, x: Float[Array, "*B D"], centered: bool = False) -> Float[Array, "*B D"]:
        """Normalize arrays; `centered` if their mean over the last axis is 0."""
        arguments = x.astype(jnp.float32), self.gain[...], self.bias[...], self.epsilon, centered
        return layer_norm(*arguments).astype(x.dtype)


class FeedForward(nnx.Module):
    """Feed-forward network, `max(0, x W1 + b1) W2 + b2` (Vaswani et al. 2017, eq. 2).

    W2 is stored transposed, `[D, F]`: XLA's CPU backend computes its gradient, a product of two
    tall matrices, 1.5 times faster with the narrower matrix on the left.
    """

    def __init__(self, width: int, hidden: int, *, key: PRNGKeyArray):
        key_in, key_out = jax.random.split(key)
        self.kernel_in = param(glorot(key_in, (width, hidden), width, hidden), ("embed", "mlp"))
        self.bias_in = param(jnp.zeros(hidden), ("mlp",))
        kernel_out = glorot(key_out, (hidden, width), hidden, width)
        self.kernel_out = param(kernel_out.T, ("embed", "mlp"))
        self.bias_out = param(jnp.zeros(width), ("embed",))

    def __call__(self, x: Float[Array, "*B D"]) -> Float[Array, "*B D"]:
        x = jax.nn.relu(affine(x, self.kernel_in[...], self.bias_in[...]))
        return affine(x, self.kernel_out[...].T, self.bias_out[...])


class MultiHeadAttention(nnx.Module):
    """Multi-head attention: projections around `attention.attend_heads`.

    The caller projects keys and values by `project`, so that a decoder may cache them.

    Query, key and value matrices are initialized as one matrix of the three side by side, as in
    PyTorch (one weight of 3D rows) and fairseq (gain 1 / sqrt 2): Glorot's bound uses the
    fan-out of all three matrices, and is smaller by sqrt 2 than the bound of one matrix. Larger
    initial logits saturate the softmax and slow post-norm training: on Multi30k by the
    recipe of Wu et al. 2021, dev BLEU after 2,000 updates is 27.7 with the joint bound and 8.7
    with separate bounds.

    Deviation from Vaswani et al. 2017, sec. 3.2.2: every projection has a bias. The bias of the
    keys has no effect, since it adds the same constant to all logits of a query.
    """

    def __init__(self, width: int, heads: int, key_width: int, value_width: int, *, key):
        d, h, k, v = width, heads, key_width, value_width
        keys = jax.random.split(key, 4)
        fan_out = h * (k + k + v)
        axes = ("embed", "heads", None)
        self.query = param(glorot(keys[0], (d, h, k), d, fan_out), axes)
        self.query_bias = param(jnp.zeros((h, k)), axes[1:])
        self.key = param(glorot(keys[1], (d, h, k), d, fan_out), axes)
        self.key_bias = param(jnp.zeros((h, k)), axes[1:])
        self.value = param(glorot(keys[2], (d, h, v), d, fan_out), axes)
        self.value_bias = param(jnp.zeros((h, v)), axes[1:])
        self.output = param(glorot(keys[3], (h, v, d), h * v, d), ("heads", None, "embed"))
        self.output_bias = param(jnp.zeros(d), ("embed",))

    def project(self, x: Float[Array, "*B S D"]) -> KeyValues:
        """Keys and values of the positions to attend to."""
        return KeyValues(
            project_heads(x, self.key[...], self.key_bias[...]),
            project_heads(x, self.value[...], self.value_bias[...]),
        )

    def __call__(
        self,
        x: Float[Array, "*B T D"],
        memory: KeyValues,
        *,
        mask: Bool[Array, "..."] | SegmentIds | None = None,
        causal: bool = False,
        implementation: Implementation = "xla",
    ) -> tuple[Float[Array, "*B T D"], Float[Array, "*B H T S"] | None]:
        """Attend from `x` to projected keys and values; see `attention.attend_heads`."""
        queries = project_heads(x, self.query[...], self.query_bias[...])
        contexts, weights = attend_heads(
            queries, memory, mask=mask, causal=causal, implementation=implementation
        )
        return merge_heads(contexts, self.output[...], self.output_bias[...]), weights


def output_table(key: PRNGKeyArray, vocabulary: int, width: int) -> Float[Array, "V D"]:
    """Sample an output embedding from N(0, 1 / D), so that the first logits are of order 1.

    Glorot's bound would decrease with V, and the logits would start near zero.
    """
    return jax.random.normal(key, (vocabulary, width)) * width**-0.5


class Embedding(nnx.Module):
    """Embedding matrix shared by source, target and softmax (Vaswani et al. 2017, sec. 3.4).

    Initialized from N(0, 1 / D), so that the embedding, which is multiplied by sqrt(D), has unit
    variance and the first logits are of order 1.
    """

    def __init__(self, vocabulary: int, width: int, *, key: PRNGKeyArray):
        self.table = param(output_table(key, vocabulary, width), ("vocab", "embed"))

    def __call__(self, tokens: Int[Array, "*B T"], dtype: jnp.dtype) -> Float[Array, "*B T D"]:
        """Embed tokens and multiply the embeddings by sqrt(D)."""
        # The lookup precedes the cast, so that gradients of repeated tokens are summed in float32.
        embedded = self.table[...][tokens].astype(dtype)
        return embedded * jnp.asarray(embedded.shape[-1] ** 0.5, dtype)

    def logits(self, x: Float[Array, "*B T D"]) -> Float[Array, "*B T V"]:
        """Pre-softmax product with the same matrix, in float32."""
        return output_logits(x, self.table[...])
