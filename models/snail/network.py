"""SNAIL: temporal convolutions interleaved with causal attention.

Source: Mishra et al. 2018, "A simple neural attentive meta-learner", sec. 3 and figure 2.

Every block has two equivalent forms: `__call__` over a whole sequence, for training, and `step`
with a cache, for acting. A step recomputes nothing: the convolution caches the projections of past
inputs, and attention caches its keys and values.
"""

import math
import re
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float, Int, PRNGKeyArray

from attention import KeyValues, affine, attend, extend
from attention.masks import causal
from models.layers import Remat, check_remat, glorot, param, rematerialize
from models.recurrence import GRU, make_matmul, unroll


class DenseBlock(nnx.Module):
    """Gated causal convolution of kernel size 2, concatenated to its input (fig. 2a).

    Source: Mishra et al. 2018, `DenseBlock(R, D)`: `[x, tanh(f(x)) * sigmoid(g(x))]`.

    Args:
        width: input channels.
        filters: D, channels added to the input.
        dilation: R, distance in steps between the two taps of the kernel.
        key: PRNG key of the initialization.
    """

    def __init__(self, width: int, filters: int, *, dilation: int, key: PRNGKeyArray):
        self.dilation, self.width = dilation, width + filters
        # Columns: [past filters, past gates, present filters, present gates].
        kernel = glorot(key, (width, 4 * filters), 2 * width, filters)
        self.kernel = param(kernel, ("embed", "mlp"))
        self.bias = param(jnp.zeros(2 * filters), ("mlp",))

    def __call__(self, x: Float[Array, "B T D"]) -> Float[Array, "B T E"]:
        """Apply the block to whole sequences, padded with zeros on the left."""
        past, present = jnp.split(affine(x, self.kernel[...]), 2, axis=-1)
        length, shift = x.shape[1], min(self.dilation, x.shape[1])
        past = jnp.pad(past[:, : length - shift], ((0, 0), (shift, 0), (0, 0)))
        return self._gate_and_concat(x, past + present)

    def init_cache(self, batch: int) -> Float[Array, "R B F"]:
        """Return an empty ring buffer of the past projections of the last R steps."""
        return jnp.zeros((self.dilation, batch, self.bias.shape[0]))

    def step(self, x: Float[Array, "B D"], cache: Float[Array, "R B F"], t: Int[Array, ""]):
        """Apply the block to step t; returns the output and the updated cache."""
        new, present = jnp.split(affine(x, self.kernel[...]), 2, axis=-1)
        slot = t % self.dilation
        past = jax.lax.dynamic_index_in_dim(cache, slot, keepdims=False)
        cache = jax.lax.dynamic_update_index_in_dim(cache, new, slot, 0)
        return self._gate_and_concat(x, past + present), cache

    def _gate_and_concat(self, x, preactivations):
        filters, gates = jnp.split(preactivations + self.bias[...], 2, axis=-1)
        return jnp.concatenate([x, jnp.tanh(filters) * jax.nn.sigmoid(gates)], axis=-1)


class AttentionBlock(nnx.Module):
    """Causal self-attention with one head, concatenated to its input (fig. 2b).

    Source: Mishra et al. 2018, `AttentionBlock(K, V)`: `softmax(q k^T / sqrt(K)) v`.

    Args:
        width: input channels.
        key_width: K, width of queries and keys.
        value_width: V, width of values.
        max_length: length of the cache in steps.
        key: PRNG key of the initialization.
        tied_init: 0 to initialize queries and keys independently, or the relative scale of an
            initial projection that both share, so that similar steps attend to each other.
    """

    def __init__(
        self,
        width: int,
        key_width: int,
        value_width: int,
        *,
        max_length: int,
        key: PRNGKeyArray,
        tied_init: float = 0.0,
    ):
        self.widths = key_width, key_width, value_width
        self.max_length, self.width = max_length, width + value_width
        kernels = [
            glorot(k, (width, part), width, part)
            for k, part in zip(jax.random.split(key, 3), self.widths, strict=True)
        ]
        if tied_init:
            kernels[0] = kernels[1] = tied_init * kernels[0]
        self.kernel = param(jnp.concatenate(kernels, axis=-1), ("embed", None))
        self.bias = param(jnp.zeros(sum(self.widths)), (None,))

    def __call__(self, x: Float[Array, "B T D"]) -> tuple[Float[Array, "B T E"], Array]:
        """Apply the block to whole sequences; returns the output and the weights `[B, T, T]`."""
        queries, memory = self._project(x)
        contexts, weights = attend(queries, *memory, mask=causal(x.shape[1], x.shape[1]))
        return jnp.concatenate([x, contexts], axis=-1), weights

    def init_cache(self, batch: int) -> KeyValues:
        """Return an empty cache of keys and values."""
        _, key_width, value_width = self.widths
        shape = batch, self.max_length
        return KeyValues(jnp.zeros((*shape, key_width)), jnp.zeros((*shape, value_width)))

    def step(self, x: Float[Array, "B D"], cache: KeyValues, t: Int[Array, ""]):
        """Apply the block to step t; returns the output and the updated cache."""
        queries, new = self._project(x[:, None])
        cache = extend(cache, new, t)
        contexts, _ = attend(queries, *cache, mask=causal(1, self.max_length, offset=t))
        return jnp.concatenate([x, contexts[:, 0]], axis=-1), cache

    def _project(self, x):
        ends = self.widths[0], self.widths[0] + self.widths[1]
        projected = affine(x, self.kernel[...], self.bias[...])
        queries, keys, values = jnp.split(projected, ends, axis=-1)
        return queries, KeyValues(keys, values)


class RecurrentBlock(nnx.Module):
    """GRU layer, the recurrent memory of RL².

    Source: Duan et al. 2016, "RL²: fast reinforcement learning via slow reinforcement learning".

    Args:
        width: input channels.
        hidden: H, hidden units.
        key: PRNG key of the initialization.
    """

    def __init__(self, width: int, hidden: int, *, key: PRNGKeyArray):
        self.gru, self.width = GRU(width, hidden, key=key), hidden

    def __call__(self, x: Float[Array, "B T D"]) -> Float[Array, "B T H"]:
        """Apply the layer to whole sequences."""
        return unroll(self.gru, x, jnp.ones(x.shape[:2], bool))[0]

    def init_cache(self, batch: int) -> Float[Array, "B H"]:
        """Return the hidden state before the first step."""
        return self.gru.init_carry(batch, jnp.float32)

    def step(self, x: Float[Array, "B D"], cache: Float[Array, "B H"], t: Int[Array, ""]):
        """Apply the layer to step t; returns the output and the new hidden state."""
        del t
        matmul = make_matmul(self.gru.weights())
        return self.gru.step(matmul, self.gru.project_inputs(x), cache)[::-1]


class Cache(NamedTuple):
    """Caches of all blocks of a backbone."""

    blocks: list[Any]
    t: Int[Array, ""]  # number of steps taken


class Backbone(nnx.Module):
    """Sequence of blocks, each of which receives the output of the previous one.

    `TC(D)` stands for ceil(log2 T) dense blocks of D filters with the dilations 1, 2, 4, ...,
    so that the receptive field covers the sequence (sec. 3.1). In the paper the dilations start at
    2, which skips every other step; here they start at 1, as in most other implementations.
    `GRU(H)` is a recurrent layer.

    Args:
        width: input channels.
        blocks: blocks in the paper's notation: 'TC(32) TC(32) Att(32,32)'.
        max_length: T, maximum sequence length in steps.
        key: PRNG key of the initialization.
        remat: rematerialization policy of each block, see `models.layers.rematerialize`.
        tied_init: see `AttentionBlock`.

    Raises:
        ValueError: if a block or `remat` is unknown.
    """

    def __init__(
        self,
        *,
        width: int,
        blocks: str,
        max_length: int,
        key: PRNGKeyArray,
        remat: Remat = "none",
        tied_init: float = 0.0,
    ):
        check_remat(remat)
        self.remat: Remat = remat
        self.blocks: Any = nnx.List()
        levels = max(1, math.ceil(math.log2(max_length)))
        for n, (kind, sizes) in enumerate(parse_blocks(blocks)):
            block_key = jax.random.fold_in(key, n)
            factories: list[Callable[..., Any]]
            if kind == "Att":
                factories = [partial(AttentionBlock, max_length=max_length, tied_init=tied_init)]
            elif kind == "GRU":
                factories = [RecurrentBlock]
            else:
                factories = [partial(DenseBlock, dilation=2**i) for i in range(levels)]
            for i, factory in enumerate(factories):
                self.blocks.append(factory(width, *sizes, key=jax.random.fold_in(block_key, i)))
                width = self.blocks[-1].width
        self.width = width

    def __call__(self, x: Float[Array, "B T D"]) -> tuple[Float[Array, "B T E"], list[Array]]:
        """Apply all blocks to whole sequences.

        Returns:
            The output, and the weights `[B, T, T]` of each attention block.
        """
        weights = []
        for block in self.blocks:
            outputs = rematerialize(block, self.remat)(x)
            if isinstance(block, AttentionBlock):
                x, block_weights = outputs
                weights.append(block_weights)
            else:
                x = outputs
        return x, weights

    def init_cache(self, batch: int) -> Cache:
        """Return empty caches of all blocks."""
        return Cache([block.init_cache(batch) for block in self.blocks], jnp.int32(0))

    def step(self, x: Float[Array, "B D"], cache: Cache) -> tuple[Float[Array, "B E"], Cache]:
        """Apply all blocks to one step; returns the output and the updated cache."""
        caches = []
        for block, block_cache in zip(self.blocks, cache.blocks, strict=True):
            x, block_cache = block.step(x, block_cache, cache.t)
            caches.append(block_cache)
        return x, Cache(caches, cache.t + 1)


def parse_blocks(blocks: str) -> list[tuple[str, tuple[int, ...]]]:
    """Parse blocks: 'TC(32) Att(32,16)' becomes `[("TC", (32,)), ("Att", (32, 16))]`.

    Raises:
        ValueError: if the string does not have this form, has no block, or a size is 0.
    """
    num_sizes = {"TC": 1, "Att": 2, "GRU": 1}
    parsed = []
    for block in blocks.split():
        match = re.fullmatch(r"(TC|Att|GRU)\((\d+(?:,\d+)*)\)", block)
        sizes = tuple(map(int, match[2].split(","))) if match else ()
        if not match or 0 in sizes or len(sizes) != num_sizes[match[1]]:
            raise ValueError(
                f"invalid block {block!r}: write blocks like 'TC(32) Att(32,16)' or 'GRU(256)', "
                "with positive sizes and without spaces inside the parentheses"
            )
        parsed.append((match[1], sizes))
    if not parsed:
        raise ValueError("blocks is empty: write blocks like 'TC(32) Att(32,16)'")
    return parsed


class SNAIL(nnx.Module):
    """Policy and value function: an embedding, a backbone, and output heads.

    With the single block `GRU(256)`, the model is RL², except for the linear embedding of the
    inputs. In both papers the value function is a separate model. Here the value function shares
    the backbone of the policy.

    Args:
        inputs: I, input channels of a step.
        actions: A, number of actions.
        embedding: output channels of the linear input layer.
        blocks: see `Backbone`.
        max_length: T, length of a trial in steps.
        remat: see `Backbone`.
        key: PRNG key of the initialization.

    Raises:
        ValueError: if a block or `remat` is invalid.
    """

    def __init__(
        self,
        *,
        inputs: int,
        actions: int,
        embedding: int,
        blocks: str,
        max_length: int,
        remat: Remat,
        key: PRNGKeyArray,
    ):
        keys = jax.random.split(key)
        self.embedding = param(
            glorot(keys[0], (inputs, embedding), inputs, embedding), (None, "embed")
        )
        self.embedding_bias = param(jnp.zeros(embedding), ("embed",))
        self.backbone = Backbone(
            width=embedding, blocks=blocks, max_length=max_length, remat=remat, key=keys[1]
        )
        self.heads = Heads(self.backbone.width, actions)

    def __call__(
        self, x: Float[Array, "B T I"]
    ) -> tuple[Float[Array, "B T A"], Float[Array, "B T"]]:
        """Compute logits and values at every step of whole trials."""
        return self.heads(self.backbone(self._embed(x))[0])

    def attention_weights(self, x: Float[Array, "B T I"]) -> list[Float[Array, "B T T"]]:
        """Compute the weights of each attention block."""
        return self.backbone(self._embed(x))[1]

    def init_cache(self, batch: int) -> Cache:
        """Return an empty cache."""
        return self.backbone.init_cache(batch)

    def step(
        self, x: Float[Array, "B I"], cache: Cache
    ) -> tuple[Float[Array, "B A"], Float[Array, " B"], Cache]:
        """Apply the model to one step; returns logits, values and the updated cache."""
        features, cache = self.backbone.step(self._embed(x), cache)
        return *self.heads(features), cache

    def _embed(self, x):
        return affine(x, self.embedding[...], self.embedding_bias[...])


class Heads(nnx.Module):
    """Action logits and a value, initialized to zero so that the first policy is uniform."""

    def __init__(self, width: int, actions: int):
        self.kernel = param(jnp.zeros((width, actions + 1)), ("embed", None))
        self.bias = param(jnp.zeros(actions + 1), (None,))

    def __call__(self, x: Float[Array, "*B D"]) -> tuple[Float[Array, "*B A"], Float[Array, "*B"]]:
        outputs = affine(x, self.kernel[...], self.bias[...])
        return outputs[..., :-1], outputs[..., -1]
