"""Rows of real positions: there and back, and a map that equals the plain one, gradients too."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from models.layers import dropout
from models.packing import Rows
from tasks.translation.cross_entropy import linear_cross_entropy
from tests.models.tiny import SOURCE, TARGET, quick_jit, transformer

VALID = np.array(
    [[1, 1, 1, 0, 0], [0, 0, 0, 0, 0], [1, 1, 1, 1, 1], [0, 1, 0, 1, 0]], bool
)  # one of nothing but padding, one with padding in the middle
ALL, NONE = np.ones_like(VALID), np.zeros_like(VALID)
BLOCKS = [1, 3, 4, 64]


def normal(*shape):
    return np.random.default_rng(0).normal(size=shape).astype(np.float32)


@pytest.mark.parametrize("block", [0, *BLOCKS])
@pytest.mark.parametrize("valid", [VALID, ALL, NONE])
def test_there_and_back(valid, block):
    x = normal(4, 5, 2)
    rows = Rows.of(jnp.asarray(valid), block)
    packed = rows.pack(jnp.asarray(x))
    np.testing.assert_array_equal(rows.unpack(packed)[valid], x[valid])
    if block:  # the real ones in their order, and then nothing
        np.testing.assert_array_equal(packed[: valid.sum()], x[valid])
        assert not packed[valid.sum() :].any()
        np.testing.assert_array_equal(rows.order[: valid.sum()], np.flatnonzero(valid))


@pytest.mark.parametrize("way", ["pack", "unpack"])
def test_gradients_of_the_ways_are_those_of_indexing(way):
    """Weights on real positions alone, as all that comes of padding is dropped."""
    rows = Rows.of(jnp.asarray(VALID), 3)
    count, n = VALID.sum(), len(rows.order)
    weights = normal(4, 5, 2) * VALID[..., None]
    if way == "pack":
        on_rows = jnp.asarray(np.concatenate([weights[VALID], np.zeros((n - count, 2))]))
        gradient = jax.grad(lambda x: jnp.sum(on_rows * rows.pack(x)))(jnp.ones((4, 5, 2)))
        np.testing.assert_allclose(gradient, weights)
    else:
        gradient = jax.grad(lambda x: jnp.sum(weights * rows.unpack(x)))(jnp.ones((n, 2)))
        np.testing.assert_allclose(gradient[:count], weights[VALID])
        assert not gradient[count:].any()


def mapped(valid, block, x, y, kernel, bias):
    """A map of two inputs and two outputs that closes over weights, on all positions."""
    rows = Rows.of(jnp.asarray(valid), block)

    def f(x, y, positions):
        hidden = dropout(jax.nn.relu(x @ kernel + bias), 0.5, jax.random.key(0), positions)
        return hidden @ kernel.T + y, y * bias[0]

    return [rows.unpack(z) for z in rows.map(f, rows.pack(x), rows.pack(y))]


@pytest.mark.parametrize("block", BLOCKS)
@pytest.mark.parametrize("valid", [VALID, ALL, NONE])
def test_a_map_in_blocks_equals_the_whole_in_values_and_gradients(valid, block):
    inputs = [jnp.asarray(normal(*shape)) for shape in ((4, 5, 3), (4, 5, 3), (3, 6), (6,))]
    probe = normal(4, 5, 3) * valid[..., None]

    @partial(quick_jit, static_argnums=0)
    def both(block, *inputs):
        def probed(*inputs):
            one, other = mapped(valid, block, *inputs)
            return jnp.sum(probe * one) + jnp.sum(probe**2 * other), (one, other)

        return jax.grad(probed, range(4), has_aux=True)(*inputs)

    (found, ys), (expected, expected_ys) = both(block, *inputs), both(0, *inputs)
    for one, other in zip(ys, expected_ys, strict=True):
        np.testing.assert_allclose(one[valid], other[valid], atol=1e-5)
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_allclose(one, other, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("norm", ["post", "pre"])
def test_a_packed_transformer_equals_the_whole_in_loss_and_gradients(norm):
    """Dropout included: what a position loses does not depend on where its row stands."""

    def loss_and_gradients(block):
        graphdef, params = transformer(block=block, dropout=0.3, norm=norm, decoder_layers=2)

        @quick_jit
        def both(params):
            def loss(params):
                model = nnx.merge(graphdef, params)
                memory, _ = model.encode(SOURCE, jax.random.key(1))
                states, _ = model.decode(TARGET, memory, jax.random.key(2))
                return linear_cross_entropy(states, model.output_table, TARGET, TARGET != 0)

            return jax.value_and_grad(loss)(params)

        return jax.tree.leaves(both(params))

    for one, other in zip(loss_and_gradients(4), loss_and_gradients(0), strict=True):
        np.testing.assert_allclose(one, other, atol=1e-4, rtol=1e-4)
