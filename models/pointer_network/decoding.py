"""Decoding of sequences of choices: greedy, sampling and beam search.

The choices are indices: 0, ..., N - 1 for the points and N for the end token, so S = N + 1 logits
per step. As a decoder input, index N is the start token. All examples of a batch have the same
number of points, `count`, which may be traced and less than N.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx
from jax import lax
from jaxtyping import Array, Bool, Float, Int, PRNGKeyArray

from models.beam_search import beam_search

# (indices chosen before, position) -> mask of the indices that may be chosen
MaskFn = Callable[[Bool[Array, "B W S"], Int[Array, ""]], Bool[Array, "B W S"]]


def mark_chosen(chosen: Bool[Array, "B W S"], choices: Int[Array, "B W"]) -> Bool[Array, "B W S"]:
    """Add choices to the indices chosen before; the end token is not added."""
    size = chosen.shape[-1]
    return chosen | jax.nn.one_hot(choices, size, dtype=bool) & (jnp.arange(size) < size - 1)


def append_end_token(
    annotations: Float[Array, "B N H"], end_token: Float[Array, " H"]
) -> Float[Array, "B S H"]:
    """Append the annotation of the end token, index N, to those of the points."""
    end = jnp.broadcast_to(end_token, (len(annotations), 1, annotations.shape[-1]))
    return jnp.concatenate([annotations, end], axis=1)


def select_rows(table: Float[Array, "B S H"], indices: Int[Array, "B T"]) -> Float[Array, "B T H"]:
    """Select rows by a matmul with one-hot vectors, whose gradient is a matmul, not a scatter."""
    return jax.nn.one_hot(indices, table.shape[1], dtype=table.dtype) @ table


class ChoiceModel(nnx.Module):
    """Base class of encoder-decoders whose outputs are indices of input points."""

    def encode(self, points: Float[Array, "B N 2"], count: Int[Array, ""]) -> Any:
        """Compute everything that the decoding steps read."""
        raise NotImplementedError

    def __call__(
        self,
        points: Float[Array, "B N 2"],
        count: Int[Array, ""],
        choices: Int[Array, "B W T"],
        steps: Int[Array, ""],
        mask: Bool[Array, "B W T S"],
    ) -> Float[Array, "B W T S"]:
        """Compute log-probabilities of all indices at every step, given the previous choices.

        Args:
            points: `[B, N, 2]`.
            count: number of points of every example.
            choices: C, the target indices of W sequences per example.
            steps: number of decoding steps, at most T; the results of later steps are undefined.
            mask: true where an index may be chosen.
        """
        raise NotImplementedError

    def init_cache(self, memory: Any, beams: int) -> Any:
        """Return the state of `beams` beams per example before the first step."""
        raise NotImplementedError

    def decode_step(
        self,
        choices: Int[Array, "B W"],
        state: Any,
        memory: Any,
        mask_fn: MaskFn,
        position: Int[Array, ""],
    ) -> tuple[Float[Array, "B W S"], Any]:
        """Compute one decoding step of every beam, equal to the same step of the full pass.

        Args:
            choices: previous choices, N at position 0.
            state: from `init_cache` or the previous step.
            memory: from `encode`, shared by the beams of an example.
            mask_fn: mask of the next choices.
            position: number of previous choices.

        Returns:
            Logits of the next choice, -inf where masked, and the new state.
        """
        raise NotImplementedError

    def decode(
        self,
        points: Float[Array, "B N 2"],
        count: Int[Array, ""],
        steps: Int[Array, ""],
        length: int,
        mask_fn: MaskFn,
        has_end_token: bool,
        key: PRNGKeyArray | None = None,
        samples: int = 1,
        temperature: float | Float[Array, ""] = 1.0,
    ) -> Int[Array, "B W T"]:
        """Decode greedily or, with a key, by sampling.

        Args:
            points: `[B, N, 2]`.
            count: number of points of every example.
            steps: maximum number of decoding steps.
            length: T, at least `steps`; static.
            mask_fn: mask of the next choices.
            has_end_token: whether a sequence ends at its first end token; otherwise all `steps`
                steps run, without a check for the end token.
            key: PRNG key of the samples.
            samples: W, number of samples per example; each example is encoded once.
            temperature: T > 0: the choices are sampled from `softmax(logits / T)` (Bello et al.
                2016, appendix A). The bounded logits are divided, and glimpses do not change.

        Returns:
            Choices `[B, W, T]`, filled with N from the end token on.
        """
        memory, end = self.encode(points, count), points.shape[1]

        def step(loop_state):
            position, last, state, choices = loop_state
            logits, state = self.decode_step(last, state, memory, mask_fn, position)
            if key is not None:  # sample by the Gumbel-max trick
                noise_key = jax.random.fold_in(key, position)
                logits = logits / temperature + jax.random.gumbel(noise_key, logits.shape)
            best = jnp.argmax(logits, axis=-1).astype(jnp.int32)
            ended = (last == end) & (position > 0)
            last = jnp.where(ended, end, best) if has_end_token else best
            choices = lax.dynamic_update_index_in_dim(choices, last, position, 2)
            return position + 1, last, state, choices

        def unfinished(loop_state):
            position, last, *_ = loop_state
            # The constant bound is redundant; `training.flops` reads the largest number from it.
            within = (position < steps) & (position < length)
            if not has_end_token:
                return within
            return within & ((position == 0) | jnp.any(last != end))

        last = jnp.full((len(points), samples), end, jnp.int32)
        choices = jnp.full((*last.shape, length), end, jnp.int32)
        loop_state = (jnp.int32(0), last, self.init_cache(memory, samples), choices)
        return lax.while_loop(unfinished, step, loop_state)[-1]

    def search(
        self,
        points: Float[Array, "B N 2"],
        count: Int[Array, ""],
        steps: Int[Array, ""],
        length: int,
        mask_fn: MaskFn,
        width: int,
    ) -> tuple[Int[Array, "B W T"], Float[Array, "B W"]]:
        """Find sequences of high probability by beam search.

        Args:
            points: `[B, N, 2]`.
            count: number of points of every example.
            steps: maximum number of decoding steps.
            length: T, at least `steps`; static.
            mask_fn: mask of the next choices.
            width: W, beam width.

        Returns:
            Choices, best first and filled with N from the end token on, and their
            log-probabilities, -inf if fewer than W sequences exist.
        """
        memory, end = self.encode(points, count), points.shape[1]
        choices, log_probs = beam_search(
            lambda last, state, position: self.decode_step(last, state, memory, mask_fn, position),
            self.init_cache(memory, width),
            # One more step, because `beam_search` ends every sequence with `eos`, even if the
            # problem has no end token.
            jnp.full(len(points), steps + 1),
            length=length + 1,
            width=width,
            length_penalty=0.0,
            pad=end,
            bos=end,
            eos=end,
        )
        return choices[..., :-1], log_probs
