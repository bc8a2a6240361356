"""Beam search over any step function, with the model's cache going in and out."""

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


class _Beams(NamedTuple):
    position: Int[Array, ""]
    cache: Any
    tokens: Int[Array, "B W T"]  # unfinished hypotheses
    log_probs: Float[Array, "B W"]
    finished: Int[Array, "B W T"]  # best first; scores of -inf where there is none yet
    scores: Float[Array, "B W"]


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
    """Finds the sequences of highest `log P(Y) / lp(Y)`, `lp(Y) = ((5 + |Y|) / 6) ** alpha`.

    Source: Vaswani et al. 2017, sec. 6.1; the penalty is Wu et al. 2016, eq. 14. |Y| counts `eos`.
    Of each sentence's 2W best extensions, those of the first W that end are set aside and the best
    W that do not go on; a sentence is done when it has W finished hypotheses. At its length limit
    only `eos` may follow. With a width of 1 this is greedy decoding.

    Args:
        step: logits of the next token of every beam, given its last token.
        cache: pytree of arrays `[B, W, ...]`; rows are reordered as beams survive.
        limits: most tokens of each sentence, `eos` included; between 1 and `length`.
        length: T, most tokens of any sentence; static.
        width: W.
        length_penalty: alpha; 0 for none.
        pad: fills up after `eos`.
        bos: stands before the first token.
        eos: ends a sequence.

    Returns:
        Tokens `[B, W, T]`, best first, and their scores, -inf where fewer than W were found.
    """
    batch = limits.shape[0]

    def penalty(size):
        return ((5.0 + size) / 6.0) ** length_penalty

    def unfinished(beams: _Beams):
        return ~jnp.isfinite(beams.scores).all(-1) & (beams.position < limits)

    def body(beams: _Beams) -> _Beams:
        position = beams.position
        last = lax.dynamic_index_in_dim(
            beams.tokens, jnp.maximum(position - 1, 0), axis=2, keepdims=False
        )
        last = jnp.where(position == 0, bos, last)
        logits, cache = step(last, beams.cache, position)
        logits = logits.astype(jnp.float32)
        before = beams.log_probs - jax.nn.logsumexp(logits, axis=-1)
        ending = jnp.arange(logits.shape[-1]) == eos
        last_chance = (position + 1 >= limits)[:, None, None]
        extended = jnp.where(last_chance & ~ending, -jnp.inf, before[..., None] + logits)

        # The 2W best of all extensions: at most W of them end, so W are left to go on.
        vocabulary = logits.shape[-1]
        best, index = largest(extended.reshape(batch, -1), 2 * width)
        parent, token = index // vocabulary, (index % vocabulary).astype(beams.tokens.dtype)
        tokens = jnp.take_along_axis(beams.tokens, parent[..., None], axis=1)
        tokens = lax.dynamic_update_slice_in_dim(tokens, token[..., None], position, axis=2)

        ends = token == eos
        # A sentence that is done keeps what it found while others go on.
        may_finish = ends & (jnp.arange(best.shape[-1]) < width) & unfinished(beams)[:, None]
        new_scores = jnp.where(may_finish, best / penalty(position + 1.0), -jnp.inf)
        scores, rank = top_k(jnp.concatenate([beams.scores, new_scores], 1), width)
        finished = jnp.concatenate([beams.finished, tokens], 1)
        finished = jnp.take_along_axis(finished, rank[..., None], axis=1)

        log_probs, rank = top_k(jnp.where(ends, -jnp.inf, best), width)
        tokens = jnp.take_along_axis(tokens, rank[..., None], axis=1)
        parent = jnp.take_along_axis(parent, rank, axis=1)
        cache = jax.tree.map(lambda rows: jax.vmap(jnp.take, (0, 0, None))(rows, parent, 0), cache)
        return _Beams(position + 1, cache, tokens, log_probs, finished, scores)

    start = _start(cache, jnp.full((batch, width, length), pad, jnp.int32))
    beams = lax.while_loop(lambda beams: unfinished(beams).any(), body, start)
    return beams.finished, beams.scores


def _start(cache: Any, empty: Int[Array, "B W T"]) -> _Beams:
    """Before the first token, when all beams of a sentence are one."""
    batch, width, _ = empty.shape
    only_first = jnp.where(jnp.arange(width) == 0, 0.0, -jnp.inf)
    return _Beams(
        position=jnp.int32(0),
        cache=cache,
        tokens=empty,
        log_probs=jnp.broadcast_to(only_first, (batch, width)),
        finished=empty,
        scores=jnp.full((batch, width), -jnp.inf),
    )


@partial(custom_partitioning, static_argnums=(1,))
def top_k(x: Float[Array, "B N"], count: int) -> tuple[Float[Array, "B K"], Int[Array, "B K"]]:
    """`lax.top_k` of rows that stay where they are; XLA would bring all of them to every device."""
    values, index = lax.top_k(x, count)
    return values, index


def _by_rows(count, mesh, operands, results):
    del results
    (rows,) = (operand.sharding for operand in operands)
    split = NamedSharding(mesh, PartitionSpec(*rows.spec[:1]))
    return mesh, lambda x: tuple(lax.top_k(x, count)), (split, split), (split,)


top_k.def_partition(_by_rows, sharding_rule="b n -> b k, b k")


def largest(
    x: Float[Array, "B N"], count: int, chunk: int = 128
) -> tuple[Float[Array, "B _"], Int[Array, "B _"]]:
    """`lax.top_k`, several times as fast on a CPU where N is a vocabulary or more.

    The `count` largest are in the `count` chunks of largest maximum, so all but these chunks are
    passed once, to find their maxima.

    Args:
        x: `[B, N]`.
        count: how many; all N if there are fewer.
        chunk: elements to a chunk.

    Returns:
        The largest, in descending order, and where they are; of equals the first comes first.
    """
    batch, size = x.shape
    count = min(count, size)
    filled = jnp.pad(x, ((0, 0), (0, -size % chunk)), constant_values=-jnp.inf)
    chunks = filled.reshape(batch, -1, chunk)
    if chunks.shape[1] <= count:
        values, index = top_k(x, count)
        return values, index
    chosen = jnp.sort(top_k(chunks.max(-1), count)[1], axis=-1)
    candidates = jnp.take_along_axis(chunks, chosen[..., None], axis=1).reshape(batch, -1)
    values, index = top_k(candidates, count)
    return values, jnp.take_along_axis(chosen, index // chunk, axis=-1) * chunk + index % chunk
