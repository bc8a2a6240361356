"""Layers that several models share. Each holds its weights and nothing else: keys go in."""

import math

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jaxtyping import Array, Float, Int, PRNGKeyArray, UInt32

from attention import KeyValues, affine, attend_heads, merge_heads, split_heads
from attention.multihead import part

Axes = tuple[str | None, ...]


def param(value: Array, axes: Axes) -> nnx.Param:
    """A weight that carries the logical name of each of its axes, from which shardings follow."""
    return nnx.Param(value, axes=axes)


def glorot(
    key: PRNGKeyArray, shape: tuple[int, ...], fan_in: int, fan_out: int
) -> Float[Array, "..."]:
    """Uniform in ±sqrt(6 / (fan_in + fan_out)) (Glorot & Bengio 2010, eq. 16)."""
    limit = (6.0 / (fan_in + fan_out)) ** 0.5
    return jax.random.uniform(key, shape, jnp.float32, -limit, limit)


def split_key(key: PRNGKeyArray | None, parts: int) -> list[PRNGKeyArray | None]:
    """One key per part, or `None` for each where there is no key and so no dropout."""
    return [None] * parts if key is None else list(jax.random.split(key, parts))


def hash_bits(key: PRNGKeyArray, indices: Int[Array, "*B"]) -> UInt32[Array, "*B"]:
    """Random bits as a hash of each index, two words of `key` folded in.

    Two rounds of a 32-bit mixer of low bias (Wellons 2018) over a Weyl sequence. For masks only:
    it is no substitute for `jax.random` in initialisation or sampling, but XLA fuses it into its
    consumer, where the default generator costs as much as a feed-forward layer on a CPU.
    """
    low, high = jax.random.bits(key, (2,), jnp.uint32)
    x = indices.astype(jnp.uint32) * np.uint32(0x9E3779B9)
    for word in (low, high):
        x = x ^ word
        x = (x ^ (x >> 16)) * np.uint32(0x21F0AAAD)
        x = (x ^ (x >> 15)) * np.uint32(0xD35A2D97)
        x = x ^ (x >> 15)
    return x


def dropout(
    x: Float[Array, "*B D"],
    rate: float,
    key: PRNGKeyArray | None,
    positions: Int[Array, "*B"] | None = None,
) -> Float[Array, "*B D"]:
    """Zeroes each element with probability `rate` and scales the others by 1 / (1 - rate).

    Without a key, as in evaluation, it is the identity (Srivastava et al. 2014).

    Args:
        x: `[*B, D]`.
        rate: in [0, 1).
        key: draws the mask.
        positions: `[*B]`, the number of each row, if they do not stand in their order: what a row
            loses follows from its number, wherever it stands.
    """
    if key is None or rate == 0.0:
        return x
    if positions is None:
        positions = jnp.arange(math.prod(x.shape[:-1])).reshape(x.shape[:-1])
    indices = positions[..., None] * x.shape[-1] + jnp.arange(x.shape[-1])
    keep = hash_bits(key, indices) >= np.uint32(rate * 2**32)
    return jnp.where(keep, x / (1.0 - rate), 0.0).astype(x.dtype)


def sinusoids(length: int, width: int) -> Float[Array, "T D"]:
    """Position encodings, sin in even and cos in odd channels (Vaswani et al. 2017, sec. 3.5)."""
    position = np.arange(length)[:, None]
    angle = position / 10_000 ** (np.arange(0, width, 2) / width)
    table = np.stack([np.sin(angle), np.cos(angle)], axis=-1).reshape(length, -1)
    return jnp.asarray(table[:, :width], jnp.float32)


class LayerNorm(nnx.Module):
    """Layer normalisation with gain and bias (Ba et al. 2016), accumulated in float32."""

    def __init__(self, width: int, epsilon: float = 1e-6):
        self.gain = param(jnp.ones(width), ("embed",))
        self.bias = param(jnp.zeros(width), ("embed",))
        self.epsilon = epsilon

    def __call__(self, x: Float[Array, "*B D"]) -> Float[Array, "*B D"]:
        x_float = x.astype(jnp.float32)
        centred = x_float - x_float.mean(-1, keepdims=True)
        variance = jnp.mean(centred**2, axis=-1, keepdims=True)
        normal = centred * jax.lax.rsqrt(variance + self.epsilon)
        return (normal * self.gain[...] + self.bias[...]).astype(x.dtype)


class FeedForward(nnx.Module):
    """`max(0, x W1 + b1) W2 + b2` at each position (Vaswani et al. 2017, eq. 2).

    W2 is held transposed, as W1 is, `[D, F]`: XLA's CPU backend forms its gradient, a product of
    two matrices of many rows, by half faster with the narrower one on the left.
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
    """The projections of multi-head attention around the kernels of `attention.multihead`.

    Keys and values are projected by `project` and passed in projected, so that a decoder may hold
    them over many calls.

    Deviation from Vaswani et al. 2017, sec. 3.2.2: every projection has a bias. That of the keys
    has no effect, as it adds as much to all logits of a row.
    """

    def __init__(self, width: int, heads: int, key_width: int, value_width: int, *, key):
        d, h, k, v = width, heads, key_width, value_width
        keys = jax.random.split(key, 4)
        into = ("embed", "heads", None)
        self.query = param(glorot(keys[0], (d, h, k), d, h * k), into)
        self.query_bias = param(jnp.zeros((h, k)), into[1:])
        self.key = param(glorot(keys[1], (d, h, k), d, h * k), into)
        self.key_bias = param(jnp.zeros((h, k)), into[1:])
        self.value = param(glorot(keys[2], (d, h, v), d, h * v), into)
        self.value_bias = param(jnp.zeros((h, v)), into[1:])
        self.output = param(glorot(keys[3], (h, v, d), h * v, d), ("heads", None, "embed"))
        self.output_bias = param(jnp.zeros(d), ("embed",))

    def project(self, x: Float[Array, "*B S D"]) -> KeyValues:
        """Keys and values of the positions that will be attended to."""
        return KeyValues(
            split_heads(x, self.key[...], self.key_bias[...]),
            split_heads(x, self.value[...], self.value_bias[...]),
        )

    def __call__(
        self, x: Float[Array, "*B T D"], memory: KeyValues, *, mask=None
    ) -> tuple[Float[Array, "*B T D"], Float[Array, "*B H T S"] | None]:
        """Attends from `x` to projected keys and values; see `attention.attend_heads`."""
        queries = split_heads(x, self.query[...], self.query_bias[...])
        contexts, weights = attend_heads(queries, memory, mask=mask)
        return merge_heads(contexts, self.output[...], self.output_bias[...]), weights

    def side_by_side(self, *names: str) -> tuple[Float[Array, "D F"], Float[Array, " F"]]:
        """Kernel and bias of several projections as one: a larger product is a faster one.

        Args:
            names: of 'query', 'key' and 'value'.
        """
        kernels = [getattr(self, name)[...] for name in names]
        biases = [getattr(self, f"{name}_bias")[...] for name in names]
        return (
            jnp.concatenate([kernel.reshape(kernel.shape[0], -1) for kernel in kernels], -1),
            jnp.concatenate([bias.reshape(-1) for bias in biases]),
        )

    def heads_of(
        self, projected: Float[Array, "*B S F"], *names: str
    ) -> list[Float[Array, "*B H S _"]]:
        """Takes apart what the projections of `side_by_side` gave."""
        shapes = [getattr(self, name).shape[1:] for name in names]
        ends = np.cumsum([math.prod(shape) for shape in shapes])[:-1]
        parts = jnp.split(projected, ends, axis=-1)
        return [part(x, heads) for x, (heads, _) in zip(parts, shapes, strict=True)]

    def merge(self, contexts: Float[Array, "*B F"]) -> Float[Array, "*B D"]:
        """Projects the heads' concatenated contexts back."""
        kernel = self.output[...]
        return affine(contexts, kernel.reshape(-1, kernel.shape[-1]), self.output_bias[...])


class Embedding(nnx.Module):
    """One matrix for source, target and softmax, as Vaswani et al. 2017, sec. 3.4."""

    def __init__(self, vocabulary: int, width: int, *, key: PRNGKeyArray):
        table = jax.random.normal(key, (vocabulary, width)) * width**-0.5
        self.table = param(table, ("vocab", "embed"))

    def __call__(self, tokens: Int[Array, "*B T"], dtype: jnp.dtype) -> Float[Array, "*B T D"]:
        """Embeds tokens, times sqrt(D)."""
        # Looked up first and narrowed then: so the gradients of a frequent token add up in float32.
        embedded = self.table[...][tokens].astype(dtype)
        return embedded * jnp.asarray(embedded.shape[-1] ** 0.5, dtype)

    def logits(self, x: Float[Array, "*B T D"]) -> Float[Array, "*B T V"]:
        """The pre-softmax product with the same matrix, in float32."""
        table = self.table[...].astype(x.dtype)
        return jnp.einsum("...d,vd->...v", x, table, preferred_element_type=jnp.float32)
