"""Tiny recurrent encoder-decoders with random parameters."""

from functools import cache, partial
from typing import NamedTuple

import jax
from flax import nnx

from models import Luong, RNNsearch
from models.seq2seq.base import Memory
from tests.models.tiny import VOCABULARY, decode_steps, unoptimized_jit, with_random_params

HIDDEN = 8  # width of decoder states and of annotations
MODELS = {
    "rnnsearch": (RNNsearch, {"maxout": 7}),
    "luong": (Luong, {"layers": 2, "input_feeding": False}),
    "luong_feeding": (Luong, {"layers": 2, "input_feeding": True}),
}
ATTENTION = {
    "score": "additive",
    "alignment": "soft",
    "width": 5,
    "max_source_length": 9,
    "half_width": 1,
    "expectation_probability": 0.5,
    "entropy_weight": 0.0,
}


@cache
def build(name, score="additive", alignment="soft", kind="gru", direction="both", dropout=0.0):
    """Create the graphdef and parameters of a model; equal arguments share compiled programs."""
    model, options = MODELS[name]
    return nnx.split(
        with_random_params(
            lambda: model(
                vocabulary=VOCABULARY,
                embedding=6,
                hidden=HIDDEN,
                encoder={"kind": kind, "layers": 1, "direction": direction, "width": HIDDEN},
                attention=ATTENTION | {"score": score, "alignment": alignment},
                dropout=dropout,
                dtype="float32",
                initialization="glorot",
                key=jax.random.key(0),
                **options,
            )
        )
    )


class Outputs(NamedTuple):
    """Outputs of `run`."""

    memory: Memory
    states: jax.Array
    logits: jax.Array
    step_logits: jax.Array  # [B, W, T, V], W = 2 equal beams


@partial(unoptimized_jit, static_argnums=0)
def run(graphdef, params, source, target):
    """Run `decode`, and `decode_step` at every position, after one `encode`."""
    model = nnx.merge(graphdef, params)
    memory, _ = model.encode(source)
    states, _ = model.decode(target, memory)
    logits = states @ model.output_embedding.T
    return Outputs(memory, states, logits, decode_steps(model, target, memory))
