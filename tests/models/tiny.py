"""Models small enough to compile in a second, with weights that no initialiser would give."""

from functools import cache, partial

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from models import Transformer

VOCABULARY = 13
SIZES = {
    "vocabulary": VOCABULARY,
    "width": 8,
    "hidden": 12,
    "heads": 2,
    "key_width": 3,  # neither D / H nor the value width, so that none stands in for another
    "value_width": 5,
    "encoder_layers": 1,
    "decoder_layers": 1,
    "dropout": 0.0,
    "norm": "post",
    "dtype": "float32",
    "implementation": "xla",
    "block": 4,
}

# Two sentences of different lengths, padded; no token is in both source and target.
SOURCE = jnp.array([[3, 4, 5, 6, 3, 2], [5, 7, 2, 0, 0, 0]])
TARGET = jnp.array([[8, 9, 10, 11, 12], [12, 9, 2, 0, 0]])


def filled(create, seed=0):
    """The module that `create` makes, every bias, gain and kernel drawn anew.

    Fresh biases are zero and gains one, which would hide a bias that is left out.
    """
    rng = np.random.default_rng(seed)
    graphdef, shapes = nnx.split(nnx.eval_shape(create))

    def draw(path, shape):
        around = 1.0 if "gain" in jax.tree_util.keystr(path) else 0.0
        return jnp.asarray(around + 0.4 * rng.normal(size=shape.shape), shape.dtype)

    return nnx.merge(graphdef, jax.tree_util.tree_map_with_path(draw, shapes))


@cache
def transformer(**changes):
    """Graph and weights of a tiny Transformer."""
    create = partial(Transformer, **SIZES | changes)
    return nnx.split(filled(lambda: create(key=jax.random.key(0))))


# Compiling is what these tests spend their time on; its effort changes no result.
quick_jit = partial(jax.jit, compiler_options={"xla_backend_optimization_level": 0})


@partial(quick_jit, static_argnums=0)
def run(graphdef, params, source, target, key=None):
    """A full pass: logits and attention weights."""
    return nnx.merge(graphdef, params)(source, target, key)


def logits(source, target, key=None, **changes):
    """Logits of the tiny model with these changes."""
    return np.asarray(run(*transformer(**changes), source, target, key)[0])
