"""Beam search with a step function and an explicit cache."""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax
from jax.experimental.custom_partitioning import custom_partitioning
from jax.sharding import NamedSharding, PartitionSpec
from jaxtyping import Array, Float, Int

# (tokens [B, W], cache, position) -> (logits [B, W, V], cache)
Step = Callable[[Int[Array, "B W"], Any, Int[Array, ""]], tuple[Float[Array, "B W V"], Any]]


class _BeamState(NamedTuple):
    """Live and finished hypotheses, in descending order; empty slots have a score of -inf."""

    position: Int[Array, ""]
    cache: Any
    live_tokens: Int[Array, "B W T"]
    live_log_probs: Float[Array, "B W"]
    finished_tokens: Int[Array, "B W T"]
    finished_scores: Float[Array, "B W"]


def beam_search(
    step: Step,
    cache: Any,
    limits: Int[Array, " B"],
    *,
    length: int,
    width: int,
    length_penalty: float,
    pad: int,
    bos: int,
    eos: int,
) -> tuple[Int[Array, "B W T"], Float[Array, "B W"]]:
    """Search for the sequences with the largest `log P(Y) / lp(Y)`.

    The length penalty is `lp(Y) = ((5 + |Y|) / 6) ** alpha`, where |Y| includes `eos`. Source:
    Vaswani et al. 2017, sec. 6.1; Wu et al. 2016, eq. 14.

    Each step selects the 2W best extensions of every sentence. If one of the first W
    extensions ends with `eos`, it is added to the finished hypotheses. The best W extensions
    without `eos` stay live. The search of a sentence ends when the sentence has W finished
    hypotheses. At position `limit - 1` of a sentence, only `eos` is allowed. A width of 1 is
    greedy decoding.

    Args:
        step: returns the logits of the next token of every beam, given the last token.
        cache: pytree of arrays `[B, W, ...]`; entries are reordered with their beams.
        limits: maximum number of tokens of each sentence, including `eos`; from 1 to `length`.
        length: T, static maximum number of tokens.
        width: W.
        length_penalty: alpha; 0 for none.
        pad: token after `eos`.
        bos: token before the first position.
        eos: token that ends a sequence.

    Returns:
        Tokens `[B, W, T]` in descending order of their scores, and the scores `[B, W]`, -inf for
        missing hypotheses.
    """
    batch = limits.shape[0]

    def penalty(size):
        return ((5.0 + size) / 6.0) ** length_penalty

    def is_searching(state: _BeamState):
        return ~jnp.isfinite(state.finished_scores).all(-1) & (state.position < limits)

    def body(state: _BeamState) -> _BeamState:
        position = state.position
        last = lax.dynamic_index_in_dim(
            state.live_tokens, jnp.maximum(position - 1, 0), axis=2, keepdims=False
        )
        last = jnp.where(position == 0, bos, last)
        logits, cache = step(last, state.cache, position)
        logits = logits.astype(jnp.float32)
        offsets = state.live_log_probs - jax.nn.logsumexp(logits, axis=-1)
        is_eos = jnp.arange(logits.shape[-1]) == eos
        at_limit = (position + 1 >= limits)[:, None, None]
        log_probs = jnp.where(at_limit & ~is_eos, -jnp.inf, offsets[..., None] + logits)

        # At most W of the 2W best extensions end, so at least W stay live.
        vocabulary = logits.shape[-1]
        best, index = chunked_top_k(log_probs.reshape(batch, -1), 2 * width)
        parent, token = index // vocabulary, (index % vocabulary).astype(state.live_tokens.dtype)
        tokens = jnp.take_along_axis(state.live_tokens, parent[..., None], axis=1)
        tokens = lax.dynamic_update_slice_in_dim(tokens, token[..., None], position, axis=2)

        ends = token == eos
        # Finished sentences keep their hypotheses while the loop runs for the others.
        finishes = ends & (jnp.arange(best.shape[-1]) < width) & is_searching(state)[:, None]
        new_scores = jnp.where(finishes, best / penalty(position + 1.0), -jnp.inf)
        finished_scores, rank = top_k(
            jnp.concatenate([state.finished_scores, new_scores], 1), width
        )
        finished_tokens = jnp.concatenate([state.finished_tokens, tokens], 1)
        finished_tokens = jnp.take_along_axis(finished_tokens, rank[..., None], axis=1)

        live_log_probs, rank = top_k(jnp.where(ends, -jnp.inf, best), width)
        live_tokens = jnp.take_along_axis(tokens, rank[..., None], axis=1)
        parent = jnp.take_along_axis(parent, rank, axis=1)
        cache = jax.tree.map(lambda x: jax.vmap(jnp.take, (0, 0, None))(x, parent, 0), cache)
        return _BeamState(
            position + 1, cache, live_tokens, live_log_probs, finished_tokens, finished_scores
        )

    initial = _initial_state(cache, jnp.full((batch, width, length), pad, jnp.int32))
    state = lax.while_loop(lambda state: is_searching(state).any(), body, initial)
    return state.finished_tokens, state.finished_scores


def _initial_state(cache: Any, empty: Int[Array, "B W T"]) -> _BeamState:
    """Return the state at position 0, where all beams are equal, so only the first one is live."""
    batch, width, _ = empty.shape
    first_beam = jnp.where(jnp.arange(width) == 0, 0.0, -jnp.inf)
    return _BeamState(
        position=jnp.int32(0),
        cache=cache,
        live_tokens=empty,
        live_log_probs=jnp.broadcast_to(first_beam, (batch, width)),
        finished_tokens=empty,
        finished_scores=jnp.full((batch, width), -jnp.inf),
    )


@partial(custom_partitioning, static_argnums=(1,))
def top_k(x: Float[Array, "B N"], count: int) -> tuple[Float[Array, "B K"], Int[Array, "B K"]]:
    """Apply `lax.top_k` to a batch that stays sharded; XLA's partitioner would replicate it."""
    values, index = lax.top_k(x, count)
    return values, index


def _partition_top_k(count, mesh, operands, results):
    del results
    (x,) = (operand.sharding for operand in operands)
    sharding = NamedSharding(mesh, PartitionSpec(*x.spec[:1]))
    return mesh, lambda x: tuple(lax.top_k(x, count)), (sharding, sharding), (sharding,)


top_k.def_partition(_partition_top_k, sharding_rule="b n -> b k, b k")


def chunked_top_k(
    x: Float[Array, "B N"], count: int, chunk: int = 128
) -> tuple[Float[Array, "B _"], Int[Array, "B _"]]:
    """Compute `lax.top_k` by chunks, which is several times faster on a CPU for a large N.

    The `count` largest elements lie in the `count` chunks with the largest maxima. Only these
    chunks are sorted; all others are read once, for their maxima.

    Args:
        x: `[B, N]`.
        count: number of elements; all N if there are fewer.
        chunk: number of elements of a chunk.

    Returns:
        The largest elements in descending order, and their indices; ties go to the smaller index.
    """
    batch, size = x.shape
    count = min(count, size)
    padded = jnp.pad(x, ((0, 0), (0, -size % chunk)), constant_values=-jnp.inf)
    chunks = padded.reshape(batch, -1, chunk)
    if chunks.shape[1] <= count:
        values, index = top_k(x, count)
        return values, index
    selected = jnp.sort(top_k(chunks.max(-1), count)[1], axis=-1)
    candidates = jnp.take_along_axis(chunks, selected[..., None], axis=1).reshape(batch, -1)
    values, index = top_k(candidates, count)
    return values, jnp.take_along_axis(selected, index // chunk, axis=-1) * chunk + index % chunk
