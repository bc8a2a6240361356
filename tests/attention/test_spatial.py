"""Attention over feature maps against NumPy; max pooling and the gated residual."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.test_util import check_grads

from attention import scaled_dot
from attention.spatial import Projections, attend_map, gated_residual, max_pool
from tests.models.tiny import unoptimized_jit

B, Y, X, C, K, V = 2, 4, 6, 8, 3, 5

jit_attend_map = unoptimized_jit(attend_map, static_argnames=("score", "pooled"))


def random_inputs(seed=0):
    rng = np.random.default_rng(seed)
    normal = lambda *shape: np.float32(rng.normal(size=shape))
    return normal(B, Y, X, C), Projections(normal(C, K), normal(C, K), normal(C, V), normal(V, C))


def attend_map_loops(maps, weights, pooled, scale=1.0):
    """Zhang et al. 2019, eq. 1 and 2, one position at a time."""
    contexts = np.zeros(maps.shape)
    attention = []
    for image, context in zip(maps.astype(np.float64), contexts, strict=True):
        projected = []
        for matrix in (weights.key, weights.value):
            x = np.einsum("yxc,ck->yxk", image, matrix)
            if pooled:
                x = np.array(
                    [
                        [x[i : i + 2, j : j + 2].max((0, 1)) for j in range(0, X, 2)]
                        for i in range(0, Y, 2)
                    ]
                )
            projected.append(x.reshape(-1, x.shape[-1]))
        keys, values = projected
        betas = []
        for y in range(Y):
            for x in range(X):
                logits = keys @ (image[y, x] @ weights.query) * scale
                beta = np.exp(logits - logits.max()) / np.exp(logits - logits.max()).sum()
                context[y, x] = (beta @ values) @ weights.output
                betas.append(beta)
        attention.append(betas)
    return contexts, np.array(attention)


@pytest.mark.parametrize("pooled", [False, True])
def test_attend_map_equals_loops(pooled):
    maps, weights = random_inputs()
    contexts, attention = jax.device_get(jit_attend_map(maps, weights, pooled=pooled))
    expected = attend_map_loops(maps, weights, pooled)
    np.testing.assert_allclose(contexts, expected[0], rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(attention, expected[1], rtol=1e-4, atol=1e-5)
    assert attention.shape == (B, Y * X, Y * X // (4 if pooled else 1))
    np.testing.assert_allclose(attention.sum(-1), 1.0, rtol=1e-5)


def test_attend_map_accepts_another_score():
    maps, weights = random_inputs()
    contexts, _ = jit_attend_map(maps, weights, score=scaled_dot, pooled=False)
    expected, _ = attend_map_loops(maps, weights, False, scale=K**-0.5)
    np.testing.assert_allclose(contexts, expected, rtol=1e-4, atol=1e-4)


def test_unpooled_attention_is_equivariant_to_permutations_of_positions():
    maps, weights = random_inputs()
    order = np.random.default_rng(1).permutation(Y * X)
    permute = lambda maps: np.reshape(maps, (B, Y * X, C))[:, order].reshape(maps.shape)
    expected, _ = jit_attend_map(maps, weights, pooled=False)
    actual, _ = jit_attend_map(permute(maps), weights, pooled=False)
    np.testing.assert_allclose(actual, permute(expected), rtol=1e-4, atol=1e-5)


def test_gate_of_zero_is_the_identity_with_a_gradient_for_the_gate():
    maps, weights = random_inputs()

    @unoptimized_jit
    def run(gate, maps, weights):
        def loss(gate):
            result = gated_residual(maps, attend_map(maps, weights)[0], gate)
            return jnp.sum(result**2), result

        return jax.grad(loss, has_aux=True)(gate)

    gradient, result = run(0.0, maps, weights)
    np.testing.assert_array_equal(result, maps)
    expected = 2 * np.sum(maps * attend_map_loops(maps, weights, True)[0])
    np.testing.assert_allclose(gradient, expected, rtol=1e-4)


def test_gradients_of_pooled_attention_equal_finite_differences():
    maps, weights = random_inputs(2)
    contexts = lambda maps, weights: attend_map(maps[:1, :4, :4], weights)[0]
    check_grads(jax.jit(contexts), (maps, weights), order=1, modes=["rev"], rtol=2e-2, atol=2e-2)


def test_max_pool_equals_hand_computed_values():
    pooled = unoptimized_jit(max_pool)(np.arange(16.0).reshape(4, 4, 1))
    np.testing.assert_array_equal(pooled, [[[5], [7]], [[13], [15]]])


def test_max_pool_equals_numpy():
    x = np.random.default_rng(0).normal(size=(2, 4, 6, 3)).astype(np.float32)
    pooled = max_pool(jnp.asarray(x))
    assert pooled.shape == (2, 2, 3, 3)
    for y in range(2):
        for u in range(3):
            window = x[:, 2 * y : 2 * y + 2, 2 * u : 2 * u + 2]
            np.testing.assert_array_equal(pooled[:, y, u], window.max((1, 2)))


def test_gradient_of_max_pool_equals_gradient_of_max():
    """The windows have no ties."""
    rng = np.random.default_rng(3)
    maps = np.float32(rng.permutation(B * Y * X * C).reshape(B, Y, X, C))
    weights = np.float32(rng.normal(size=(B, Y // 2, X // 2, C)))
    plain_max = lambda maps: maps.reshape(B, Y // 2, 2, X // 2, 2, C).max((2, 4))
    actual, expected = (
        unoptimized_jit(jax.grad(lambda maps, pool=pool: jnp.sum(weights * pool(maps))))(maps)
        for pool in (max_pool, plain_max)
    )
    np.testing.assert_array_equal(actual, expected)


def test_bfloat16_maps_have_float32_weights():
    maps, weights = random_inputs()
    contexts, attention = jit_attend_map(maps.astype(jnp.bfloat16), weights)
    assert contexts.dtype == jnp.bfloat16 and attention.dtype == jnp.float32
    expected, _ = jit_attend_map(maps, weights)
    scale = np.abs(np.asarray(expected)).max()
    np.testing.assert_allclose(np.float32(contexts), expected, atol=0.1 * scale)
