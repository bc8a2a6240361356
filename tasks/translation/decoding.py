"""Decoding of tokenized sentence pairs by beam search, on all devices and hosts."""

from collections.abc import Mapping
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jaxtyping import Array, Float, Int, PRNGKeyArray

from models.beam_search import beam_search
from models.ensemble import mean_probability
from tasks.cross_entropy import linear_cross_entropy, log_probs
from tasks.translation.data.bucketing import evaluation_batches
from tasks.translation.data.tokenized import TokenizedPairs
from tasks.vocabulary import BOS, EOS, PAD, UNK
from training import hosts, mesh
from training.errors import UserError


class Decoded(NamedTuple):
    """Outputs for every source in order, and the likelihood of the references."""

    outputs: list[Int[np.ndarray, " _"]]  # tokens of the best hypothesis
    positions: list[Int[np.ndarray, " _"]]  # source position of each token; empty if not requested
    nll: float  # negative log-likelihood of all reference tokens, in nats
    tokens: float  # number of reference tokens


class Decoder:
    """Decodes with an `EncoderDecoder`, for example an `Ensemble`.

    Args:
        graphdef: the model without its parameters.
        batching: keyword arguments of `evaluation_batches`.
        extra: largest number of output tokens beyond the length of the source.
        length_penalty: exponent of the length penalty.
    """

    def __init__(self, graphdef: nnx.GraphDef, batching: Any, extra: int, length_penalty: float):
        self._graphdef = graphdef
        self._batching = batching
        self._extra = extra
        self._length_penalty = length_penalty

    def replace_model(self, graphdef: nnx.GraphDef) -> "Decoder":
        """Return a decoder with another model and the same options."""
        return Decoder(graphdef, self._batching, self._extra, self._length_penalty)

    def decode(
        self,
        params: Any,
        pairs: TokenizedPairs,
        width: int,
        key: PRNGKeyArray | None = None,
        *,
        align: bool = False,
        allow_unknown: bool = True,
        **batching: Any,
    ) -> Decoded:
        """Decode every source.

        Args:
            params: parameters of the model.
            pairs: sources and references.
            width: beam width.
            key: PRNG key of sampled alignments (hard attention only); without it, the argmax.
            align: whether to align the output tokens with the source.
            allow_unknown: whether the output may contain UNK.
            **batching: replace the keyword arguments of `evaluation_batches`.
        """
        outputs: list[Any] = [None] * len(pairs)
        positions = list(outputs)
        nll = tokens = 0.0

        def decode(batch, first):
            batch_key = None if key is None else jax.random.fold_in(key, first)
            return self._decode_batch(params, batch, width, batch_key, align, allow_unknown)

        for indices, ids, aligned, *sums in self._map(decode, params, pairs, batching):
            nll, tokens = nll + sums[0], tokens + sums[1]
            for n, i in enumerate(indices):
                outputs[i] = ids[n]
                positions[i] = aligned[n]
        return Decoded(outputs, positions, nll, tokens)

    def align(self, params: Any, pairs: TokenizedPairs) -> list[Int[np.ndarray, " _"]]:
        """Return the source position with which each target token of the pairs is aligned."""
        positions: list[Any] = [None] * len(pairs)

        def align(batch, first):
            del first
            return (self._align_batch(params, batch["source"], batch["target"]),)

        for indices, aligned in self._map(align, params, pairs, {}):
            for n, i in enumerate(indices):
                positions[i] = aligned[n]
        return positions

    def _map(self, function, params, pairs, batching):
        """Yield the indices of the pairs of each batch, and `function(batch, first index)`."""

        def apply(item):
            batch, indices = item
            with mesh.evaluation_mesh(params) as split:
                return indices, *jax.device_get(function(split(batch), int(indices[0])))

        batches = evaluation_batches(pairs, **{**self._batching, **batching})
        return hosts.map_over_hosts(apply, batches)

    @partial(jax.jit, static_argnames=("self", "width", "align", "allow_unknown"))
    def _decode_batch(self, params, batch, width, key, align, allow_unknown):
        """Return the tokens and the positions of the best hypotheses, the NLL and its count."""
        model = nnx.merge(self._graphdef, params)
        memory, _ = model.encode(batch["source"])
        if key is not None:
            memory = model.with_sampling(memory, key)
        states, _ = model.decode(batch["target"], memory)
        nll, tokens = cross_entropy(model, states, batch["target"], smoothing=0.0)
        length = batch["source"].shape[1] + self._extra
        lengths = jnp.sum(batch["source"] != PAD, axis=-1)

        def step(last, cache, position):
            logits, cache = model.decode_step(last, cache, memory, position)
            return logits if allow_unknown else logits.at[..., UNK].set(-jnp.inf), cache

        best, _ = beam_search(
            step,
            model.init_cache(memory, width, length),
            jnp.where(lengths > 0, lengths + self._extra, 1),
            length=length,
            width=width,
            length_penalty=self._length_penalty,
            pad=PAD,
            bos=BOS,
            eos=EOS,
        )
        output = best[:, 0]
        positions = _positions(model, batch["source"], output) if align else output[:, :0]
        return output, positions, nll, tokens

    @partial(jax.jit, static_argnames="self")
    def _align_batch(self, params, source, target):
        return _positions(nnx.merge(self._graphdef, params), source, target)

    @partial(jax.jit, static_argnames="self")
    def attention(self, params: Any, source: Int[Array, "B S"], target: Int[Array, "B T"]):
        """Return the attention weights of a full pass."""
        return nnx.merge(self._graphdef, params).attention(source, target)


def check_positions(model: Mapping[str, Any], source: int, length: int) -> None:
    """Check that learned positions and a location-based score support the longest sequences.

    Args:
        model: options of the model.
        source: largest number of source tokens.
        length: largest number of positions, in training or decoding.

    Raises:
        UserError: otherwise.
    """
    if model.get("positions") == "learned" and model["max_length"] < length:
        raise UserError(
            f"model.max_length={model['max_length']} is less than the longest sequence: set it to "
            f"{length} or more."
        )
    attention = model.get("attention", {})
    is_located = attention.get("score") == "location" and attention["alignment"] != "none"
    if is_located and (limit := attention["max_source_length"]) < source:
        raise UserError(
            f"model.attention.max_source_length={limit} is less than the longest source sentence "
            f"in batching.buckets: set it to {source} or more."
        )


def _positions(model, source, target):
    """Return the source position with the largest weight for each target token."""
    return model.alignment(source, target).argmax(-1)


def cross_entropy(
    model: Any, states: Any, target: Int[Array, "B T"], smoothing: float
) -> tuple[Float[Array, ""], Float[Array, ""]]:
    """Return the cross-entropy in nats, summed over target tokens, and their number.

    Args:
        model: an `EncoderDecoder`.
        states: from its `decode`.
        target: padded tokens.
        smoothing: weight of the uniform distribution in the label-smoothed targets; not used for an
            ensemble, which is not trained.
    """
    valid = target != PAD
    if isinstance(states, tuple):  # of an ensemble
        members = zip(states, model.output_embedding, strict=True)
        log_prob = mean_probability([_log_probs(x, table, target) for x, table in members])
        loss = -jnp.sum(jnp.where(valid, log_prob, 0.0))
    else:
        table = model.output_embedding.astype(states.dtype)
        loss = linear_cross_entropy(states, table, target, valid, smoothing)
    return loss, valid.sum().astype(jnp.float32)


def _log_probs(states, table, target):
    """Return the log-probability of each target token; holds the logits of one position only."""
    positions = jnp.swapaxes(states, 0, 1), target.T
    return jax.lax.map(lambda x: log_probs(x[0], table, x[1]), positions).T
