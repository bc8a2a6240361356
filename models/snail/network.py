"""SNAIL: temporal convolutions and causal attention over all that an agent has met.

Source: Mishra et al. 2018, "A simple neural attentive meta-learner", sec. 3 and figure 2.

There are two ways through the same weights: over a whole sequence at once, in training, and a step
at a time with caches, in acting. A step costs what is new: a convolution finds what it needs of the
past projected already, attention its keys and values.
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
from models.layers import glorot, param
from models.recurrence import GRU, product_by, run


class DenseBlock(nnx.Module):
    """A gated causal convolution over two steps, `dilation` apart, beside its input (fig. 2a).

    Source: Mishra et al. 2018, `DenseBlock(R, D)`: `[x, tanh(f(x)) * sigmoid(g(x))]`.

    Args:
        width: channels of the input.
        filters: D, channels that it adds.
        dilation: R, how far back the other of the two steps is.
        key: makes the weights.
    """

    def __init__(self, width: int, filters: int, *, dilation: int, key: PRNGKeyArray):
        self.dilation, self.width = dilation, width + filters
        # What of the past and what of the present; of each filters, then their gates.
        kernel = glorot(key, (width, 4 * filters), 2 * width, filters)
        self.kernel = param(kernel, ("embed", "mlp"))
        self.bias = param(jnp.zeros(2 * filters), ("mlp",))

    def __call__(self, x: Float[Array, "B T D"]) -> Float[Array, "B T E"]:
        """A whole sequence; before it there were zeros."""
        past, present = jnp.split(affine(x, self.kernel[...]), 2, axis=-1)
        length, by = x.shape[1], min(self.dilation, x.shape[1])
        past = jnp.pad(past[:, : length - by], ((0, 0), (by, 0), (0, 0)))
        return self._add(x, past + present)

    def init_cache(self, batch: int) -> Float[Array, "R B F"]:
        """A ring of the last R steps, each as what it will say to the step R later."""
        return jnp.zeros((self.dilation, batch, self.bias.shape[0]))

    def step(self, x: Float[Array, "B D"], cache: Float[Array, "R B F"], t: Int[Array, ""]):
        """One step: the output, and the new cache."""
        past, present = jnp.split(affine(x, self.kernel[...]), 2, axis=-1)
        slot = t % self.dilation
        before = jax.lax.dynamic_index_in_dim(cache, slot, keepdims=False)
        cache = jax.lax.dynamic_update_index_in_dim(cache, past, slot, 0)
        return self._add(x, before + present), cache

    def _add(self, x, sums):
        filters, gates = jnp.split(sums + self.bias[...], 2, axis=-1)
        return jnp.concatenate([x, jnp.tanh(filters) * jax.nn.sigmoid(gates)], axis=-1)


class AttentionBlock(nnx.Module):
    """Each step reads from all steps up to itself; what it read stands beside its input (fig. 2b).

    Source: Mishra et al. 2018, `AttentionBlock(K, V)`: one head, `softmax(q k^T / sqrt(K)) v`.

    Args:
        width: channels of the input.
        keys: K, width of queries and keys.
        values: V, width of values.
        longest: of a sequence, in steps.
        key: makes the weights.
    """

    def __init__(self, width: int, keys: int, values: int, *, longest: int, key: PRNGKeyArray):
        self.parts, self.longest, self.width = (keys, keys, values), longest, width + values
        made = [
            glorot(k, (width, part), width, part)
            for k, part in zip(jax.random.split(key, 3), self.parts, strict=True)
        ]
        self.kernel = param(jnp.concatenate(made, axis=-1), ("embed", None))
        self.bias = param(jnp.zeros(sum(self.parts)), (None,))

    def __call__(self, x: Float[Array, "B T D"]) -> tuple[Float[Array, "B T E"], Array]:
        """A whole sequence: the output, and the weights `[B, T, T]`."""
        queries, memory = self._project(x)
        contexts, weights = attend(queries, *memory, mask=causal(x.shape[1], x.shape[1]))
        return jnp.concatenate([x, contexts], axis=-1), weights

    def init_cache(self, batch: int) -> KeyValues:
        """Keys and values of steps yet to come."""
        _, keys, values = self.parts
        shape = batch, self.longest
        return KeyValues(jnp.zeros((*shape, keys)), jnp.zeros((*shape, values)))

    def step(self, x: Float[Array, "B D"], cache: KeyValues, t: Int[Array, ""]):
        """One step: the output, and the new cache."""
        queries, new = self._project(x[:, None])
        cache = extend(cache, new, t)
        contexts, _ = attend(queries, *cache, mask=causal(1, self.longest, offset=t))
        return jnp.concatenate([x, contexts[:, 0]], axis=-1), cache

    def _project(self, x):
        ends = self.parts[0], self.parts[0] + self.parts[1]
        said = affine(x, self.kernel[...], self.bias[...])
        queries, keys, values = jnp.split(said, ends, axis=-1)
        return queries, KeyValues(keys, values)


class RecurrentBlock(nnx.Module):
    """A layer of gated recurrent units, in the place of its input: the memory of RL².

    Source: Duan et al. 2016, "RL²: fast reinforcement learning via slow reinforcement learning".

    Args:
        width: channels of the input.
        hidden: H, units.
        key: makes the weights.
    """

    def __init__(self, width: int, hidden: int, *, key: PRNGKeyArray):
        self.gru, self.width = GRU(width, hidden, key=key), hidden

    def __call__(self, x: Float[Array, "B T D"]) -> Float[Array, "B T H"]:
        """A whole sequence."""
        return run(self.gru, x, jnp.ones(x.shape[:2], bool))[0]

    def init_cache(self, batch: int) -> Float[Array, "B H"]:
        """The state before the first step."""
        return self.gru.start(batch, jnp.float32)

    def step(self, x: Float[Array, "B D"], cache: Float[Array, "B H"], t: Int[Array, ""]):
        """One step: the output, and the new state."""
        del t
        return self.gru.step(product_by(self.gru.weights()), self.gru.drive(x), cache)[::-1]


class Cache(NamedTuple):
    """What a body keeps of the past."""

    blocks: list[Any]
    t: Int[Array, ""]  # steps so far


class Body(nnx.Module):
    """Blocks, one after the other; each adds channels to those it is given.

    `TC(D)` stands for dense blocks of D filters with dilations 1, 2, 4, ..., as many as it takes to
    see the whole sequence, ceil(log2 T) (sec. 3.1). As printed the first dilation is 2, which
    misses every other step; here it is 1, as in most other implementations. `GRU(H)` is a recurrent
    layer.

    Args:
        width: channels of the input.
        blocks: in the paper's words: 'TC(32) TC(32) Att(32,32)'.
        longest: T, of a sequence, in steps.
        key: makes the weights.

    Raises:
        ValueError: for blocks that there are not.
    """

    def __init__(self, *, width: int, blocks: str, longest: int, key: PRNGKeyArray):
        self.blocks: Any = nnx.List()
        levels = max(1, math.ceil(math.log2(longest)))
        for n, (kind, sizes) in enumerate(parse(blocks)):
            key_block = jax.random.fold_in(key, n)
            makers: list[Callable[..., Any]]
            if kind == "Att":
                makers = [partial(AttentionBlock, longest=longest)]
            elif kind == "GRU":
                makers = [RecurrentBlock]
            else:
                makers = [partial(DenseBlock, dilation=2**i) for i in range(levels)]
            for i, make in enumerate(makers):
                self.blocks.append(make(width, *sizes, key=jax.random.fold_in(key_block, i)))
                width = self.blocks[-1].width
        self.width = width

    def __call__(self, x: Float[Array, "B T D"]) -> tuple[Float[Array, "B T E"], list[Array]]:
        """A whole sequence: the output, and the weights `[B, T, T]` of each attention block."""
        weights = []
        for block in self.blocks:
            if isinstance(block, AttentionBlock):
                x, seen = block(x)
                weights.append(seen)
            else:
                x = block(x)
        return x, weights

    def init_cache(self, batch: int) -> Cache:
        """Before the first step."""
        return Cache([block.init_cache(batch) for block in self.blocks], jnp.int32(0))

    def step(self, x: Float[Array, "B D"], cache: Cache) -> tuple[Float[Array, "B E"], Cache]:
        """One step: the output, and the new cache."""
        kept = []
        for block, old in zip(self.blocks, cache.blocks, strict=True):
            x, new = block.step(x, old, cache.t)
            kept.append(new)
        return x, Cache(kept, cache.t + 1)


def parse(blocks: str) -> list[tuple[str, tuple[int, ...]]]:
    """Kinds and sizes of blocks: 'TC(32) Att(32,16)' is `[("TC", (32,)), ("Att", (32, 16))]`.

    Raises:
        ValueError: if it is not written like that.
    """
    sizes = {"TC": 1, "Att": 2, "GRU": 1}
    parsed = []
    for block in blocks.split():
        match = re.fullmatch(r"(TC|Att|GRU)\((\d+(?:,\d+)*)\)", block)
        numbers = tuple(map(int, match[2].split(","))) if match else ()
        if not match or len(numbers) != sizes[match[1]]:
            raise ValueError(
                "blocks must be like 'TC(32) Att(32,16)' or 'GRU(256)', without spaces inside, "
                f"not {block!r}"
            )
        parsed.append((match[1], numbers))
    return parsed


class SNAIL(nnx.Module):
    """A policy and its values: an embedding, a body, and logits of actions.

    With the one block `GRU(256)` it is RL². The papers' value functions were models of their own;
    here the value is a further output.

    Args:
        inputs: I, channels of what is seen at a step.
        actions: A.
        embedding: channels of the first, linear layer.
        blocks: of the body.
        longest: T, of a trial, in steps.
        key: makes the weights.
    """

    def __init__(
        self,
        *,
        inputs: int,
        actions: int,
        embedding: int,
        blocks: str,
        longest: int,
        key: PRNGKeyArray,
    ):
        keys = jax.random.split(key)
        self.embedding = param(
            glorot(keys[0], (inputs, embedding), inputs, embedding), (None, "embed")
        )
        self.embedding_bias = param(jnp.zeros(embedding), ("embed",))
        self.body = Body(width=embedding, blocks=blocks, longest=longest, key=keys[1])
        self.heads = Heads(self.body.width, actions)

    def __call__(
        self, x: Float[Array, "B T I"]
    ) -> tuple[Float[Array, "B T A"], Float[Array, "B T"]]:
        """Whole trials: logits and values of every step."""
        return self.heads(self.body(self._embed(x))[0])

    def weights(self, x: Float[Array, "B T I"]) -> list[Float[Array, "B T T"]]:
        """Where each attention block looks."""
        return self.body(self._embed(x))[1]

    def init_cache(self, batch: int) -> Cache:
        """Before the first step."""
        return self.body.init_cache(batch)

    def step(
        self, x: Float[Array, "B I"], cache: Cache
    ) -> tuple[Float[Array, "B A"], Float[Array, " B"], Cache]:
        """One step: logits, values, and the new cache."""
        features, cache = self.body.step(self._embed(x), cache)
        return *self.heads(features), cache

    def _embed(self, x):
        return affine(x, self.embedding[...], self.embedding_bias[...])


class Heads(nnx.Module):
    """Logits of actions and a value, both zero at first: every action is as good as any other."""

    def __init__(self, width: int, actions: int):
        self.kernel = param(jnp.zeros((width, actions + 1)), ("embed", None))
        self.bias = param(jnp.zeros(actions + 1), (None,))

    def __call__(self, x: Float[Array, "*B D"]) -> tuple[Float[Array, "*B A"], Float[Array, "*B"]]:
        said = affine(x, self.kernel[...], self.bias[...])
        return said[..., :-1], said[..., -1]
