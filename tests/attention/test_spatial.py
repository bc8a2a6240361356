"""Attention over maps: that of the flattened sequence, in NumPy; and the gate."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.test_util import check_grads

from attention import scaled_dot
from attention.spatial import Projections, attend_map, flatten, gated, max_pool

B, Y, X, C, K, V = 2, 4, 6, 8, 3, 5


def drawn(seed=0):
    rng = np.random.default_rng(seed)
    normal = lambda *shape: jnp.asarray(rng.normal(size=shape), jnp.float32)
    return normal(B, Y, X, C), Projections(normal(C, K), normal(C, K), normal(C, V), normal(V, C))


def by_hand(maps, weights, pooled, scale=1.0):
    """One position after another, as eq. 1 and 2 say."""
    maps, weights = np.asarray(maps), Projections(*map(np.asarray, weights))
    contexts = np.zeros(maps.shape)
    attention = []
    for image, out in zip(maps.astype(np.float64), contexts, strict=True):
        seen = {}
        for name, matrix in (("f", weights.key), ("h", weights.value)):
            made = np.einsum("yxc,ck->yxk", image, matrix)
            if pooled:
                made = np.array(
                    [
                        [made[y : y + 2, x : x + 2].max((0, 1)) for x in range(0, X, 2)]
                        for y in range(0, Y, 2)
                    ]
                )
            seen[name] = made.reshape(-1, made.shape[-1])
        rows = []
        for y in range(Y):
            for x in range(X):
                s = seen["f"] @ (image[y, x] @ weights.query) * scale
                beta = np.exp(s - s.max()) / np.exp(s - s.max()).sum()
                out[y, x] = (beta @ seen["h"]) @ weights.output
                rows.append(beta)
        attention.append(rows)
    return contexts, np.array(attention)


@pytest.mark.parametrize("pooled", [False, True])
def test_equals_attention_over_the_sequence_of_positions(pooled):
    maps, weights = drawn()
    contexts, attention = attend_map(maps, weights, pooled=pooled)
    expected = by_hand(maps, weights, pooled)
    np.testing.assert_allclose(contexts, expected[0], rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(attention, expected[1], rtol=1e-4, atol=1e-5)
    assert attention.shape == (B, Y * X, Y * X // (4 if pooled else 1))
    np.testing.assert_allclose(attention.sum(-1), 1.0, rtol=1e-5)


def test_another_score_compares_the_positions():
    maps, weights = drawn()
    contexts, _ = attend_map(maps, weights, score=scaled_dot, pooled=False)
    expected, _ = by_hand(maps, weights, False, scale=K**-0.5)
    np.testing.assert_allclose(contexts, expected, rtol=1e-4, atol=1e-4)


def test_positions_that_change_places_take_their_contexts_along():
    """There is no notion of near and far in it: unpooled, any order of positions is as good."""
    maps, weights = drawn()
    order = np.random.default_rng(1).permutation(Y * X)
    shuffled = flatten(maps)[:, order].reshape(maps.shape)
    contexts, _ = attend_map(maps, weights, pooled=False)
    found, _ = attend_map(shuffled, weights, pooled=False)
    np.testing.assert_allclose(flatten(found), flatten(contexts)[:, order], rtol=1e-4, atol=1e-5)


def test_a_gate_at_zero_leaves_the_map_and_opens_with_a_gradient():
    maps, weights = drawn()

    def block(gate):
        return gated(maps, attend_map(maps, weights)[0], gate)

    np.testing.assert_array_equal(block(jnp.float32(0)), maps)
    slope = jax.grad(lambda gate: jnp.sum(block(gate) ** 2))(jnp.float32(0))
    expected = 2 * np.sum(np.asarray(maps) * by_hand(maps, weights, True)[0])
    np.testing.assert_allclose(slope, expected, rtol=1e-4)


def test_gradients_of_the_pooled_block_are_those_of_differences():
    maps, weights = drawn(2)
    block = lambda maps, weights: attend_map(maps[:1, :4, :4], weights)[0]
    check_grads(jax.jit(block), (maps, weights), order=1, modes=["rev"], rtol=2e-2, atol=2e-2)


def test_the_largest_of_each_four_positions():
    maps = jnp.arange(16.0).reshape(4, 4, 1)
    np.testing.assert_array_equal(max_pool(maps)[..., 0], [[5, 7], [13, 15]])


def test_the_largest_gets_the_gradient():
    """That of a plain `max` over the four, where no two are equal."""
    rng = np.random.default_rng(3)
    maps = jnp.asarray(rng.permutation(B * Y * X * C).reshape(B, Y, X, C), jnp.float32)
    weights = jnp.asarray(rng.normal(size=(B, Y // 2, X // 2, C)), jnp.float32)
    plain = lambda maps: maps.reshape(B, Y // 2, 2, X // 2, 2, C).max((2, 4))
    found, expected = (
        jax.grad(lambda maps, pool=pool: jnp.sum(weights * pool(maps)))(maps)
        for pool in (max_pool, plain)
    )
    np.testing.assert_array_equal(found, expected)


def test_in_bfloat16_weights_stay_in_float32():
    maps, weights = drawn()
    contexts, attention = attend_map(jnp.asarray(maps, jnp.bfloat16), weights)
    assert contexts.dtype == jnp.bfloat16 and attention.dtype == jnp.float32
    expected, _ = attend_map(maps, weights)
    scale = np.abs(expected).max()
    np.testing.assert_allclose(np.float32(contexts), expected, atol=0.1 * scale)
