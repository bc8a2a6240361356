"""Tests of `models.sagan.discriminator`."""

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from models.sagan import Discriminator
from tests.commands import fast_compilation
from tests.models.sagan.networks import (
    TINY,
    abstract_network,
    count_attention_weights,
    count_conv_weights,
    count_weights,
    random_network,
)


def count_reference_weights(width, classes):
    """Weights of discriminator.py of google/self-attention-gan; its last block has no shortcut."""
    total, inputs = 0, 3
    for outputs in (width, 2 * width, 4 * width, 8 * width, 16 * width):
        convs = count_conv_weights(inputs, outputs) + count_conv_weights(outputs, outputs)
        total += convs + count_conv_weights(inputs, outputs, 1)
        inputs = outputs
    total += 2 * count_conv_weights(inputs, inputs)
    return total + inputs + 1 + classes * inputs


def test_number_of_weights_at_128_equals_the_authors_code():
    """Attention is at 32 x 32, the default of the authors' code."""
    count = count_weights(abstract_network(Discriminator))
    assert (
        count == count_reference_weights(64, 1000) + count_attention_weights(2 * 64) == 39_463_618
    )


def test_score_is_linear_in_the_class_embedding():
    """`φ · (w + v_y) + b`: the scores of one image for two classes differ by `φ · (v_y - v_y')`."""
    image = np.random.default_rng(0).normal(size=(1, 16, 16, 1))
    images = jnp.asarray(np.repeat(image, 3, axis=0), jnp.float32)
    graphdef, params = random_network(Discriminator, **TINY)
    score = jax.jit(lambda params: nnx.merge(graphdef, params)(images, jnp.arange(3)))
    with fast_compilation():
        before = score(params)
    table = params["embedding"][...]
    params["embedding"][...] = table.at[1].set(table[0]).at[2].set(2 * table[1] - table[0])
    after = score(params)
    np.testing.assert_allclose(after[1], before[0], rtol=1e-5)
    np.testing.assert_allclose(after[2], 2 * before[1] - before[0], rtol=1e-4, atol=1e-5)
