"""Tiny models with random parameters, small enough to compile in a second."""

from functools import cache, partial

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax import lax

from models import Transformer

VOCABULARY = 13
SIZES = {
    "vocabulary": VOCABULARY,
    "width": 8,
    "hidden": 12,
    "heads": 2,
    "key_width": 3,  # unlike D / H and the value width, so that confusing them changes shapes
    "value_width": 5,
    "encoder_layers": 1,
    "decoder_layers": 1,
    "dropout": 0.0,
    "norm": "post",
    "positions": "sinusoidal",
    "max_length": 0,
    "dtype": "float32",
    "implementation": "xla",
    "remat": "none",
}

# Two sentences of different lengths, padded; no token is in both source and target.
SOURCE = jnp.array([[3, 4, 5, 6, 3, 2], [5, 7, 2, 0, 0, 0]])
TARGET = jnp.array([[8, 9, 10, 11, 12], [12, 9, 2, 0, 0]])


def with_random_params(create, seed=0):
    """Create a module and replace every parameter by random values.

    Initial biases are zero and gains one, so a bias or gain that is not applied would go unnoticed.
    """
    rng = np.random.default_rng(seed)
    graphdef, shapes = nnx.split(nnx.eval_shape(create))

    def sample(path, shape):
        mean = 1.0 if "gain" in jax.tree_util.keystr(path) else 0.0
        return jnp.asarray(mean + 0.4 * rng.normal(size=shape.shape), shape.dtype)

    return nnx.merge(graphdef, jax.tree_util.tree_map_with_path(sample, shapes))


@cache
def transformer(**changes):
    """Graphdef and parameters of a tiny Transformer."""
    create = partial(Transformer, **SIZES | changes)
    return nnx.split(with_random_params(lambda: create(key=jax.random.key(0))))


# Compilation dominates the time of these tests; more than half is in the fusion emitters.
unoptimized_jit = partial(
    jax.jit,
    compiler_options={"xla_backend_optimization_level": 0, "xla_cpu_use_fusion_emitters": False},
)


def decode_steps(model, target, memory):
    """Logits `[B, 2, T, V]` of `decode_step` at every position, for two equal beams."""

    def step(cache, x):
        token, position = x
        tokens = jnp.repeat(token[:, None], 2, axis=1)
        logits, cache = model.decode_step(tokens, cache, memory, position)
        return cache, logits

    previous = jnp.column_stack([jnp.full(len(target), model.bos), target[:, :-1]])
    length = target.shape[1]
    cache = model.init_cache(memory, 2, length)
    _, logits = lax.scan(step, cache, (previous.T, jnp.arange(length)))
    return jnp.moveaxis(logits, 0, 2)


@partial(unoptimized_jit, static_argnums=0)
def run(graphdef, params, source, target, key=None):
    """Run a full pass; return logits and attention weights."""
    return nnx.merge(graphdef, params)(source, target, key)


def logits(source, target, key=None, **changes):
    """Compute logits of the tiny Transformer with changed options."""
    return np.asarray(run(*transformer(**changes), source, target, key)[0])
