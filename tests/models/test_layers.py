"""Layers against the papers' formulas in NumPy; statistics of dropout and its random bits."""

import math
from functools import partial
from itertools import pairwise

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from jax.test_util import check_grads

from models import layers
from tests import naive
from tests.models.tiny import with_random_params

ROWS, COLUMNS = 512, 1024  # shape of the masks
SIGMAS = 5.0  # one false alarm in 1.7 million comparisons; the seeds are fixed


def normal(seed, *shape, dtype=jnp.float32):
    return jnp.asarray(np.random.default_rng(seed).normal(size=shape), dtype)


def test_sinusoids_equal_the_formula():
    """PE(pos, 2i) = sin(pos / 10000^(2i/d)) and PE(pos, 2i + 1) = cos(pos / 10000^(2i/d))."""
    length, width = 50, 6
    expected = np.zeros((length, width))
    for position in range(length):
        for i in range(width // 2):
            angle = position / 10_000 ** (2 * i / width)
            expected[position, 2 * i] = math.sin(angle)
            expected[position, 2 * i + 1] = math.cos(angle)
    np.testing.assert_allclose(layers.sinusoids(length, width), expected, atol=1e-6)
    np.testing.assert_array_equal(layers.sinusoids(4, 5).shape, (4, 5))


def test_sinusoids_of_large_positions_are_exact():
    """Angles computed in float32 would be off by 1e-5."""
    position, width = 20_000, 6
    angles = [position / 10_000 ** (2 * i / width) for i in range(width // 2)]
    expected = [f(angle) for angle in angles for f in (math.sin, math.cos)]
    np.testing.assert_allclose(layers.sinusoids(position + 1, width)[position], expected, atol=1e-6)


def test_layer_norm_equals_numpy():
    norm, x = with_random_params(lambda: layers.LayerNorm(6)), 3 * normal(1, 4, 6) + 2
    wide = np.asarray(x, np.float64)
    normalized = (wide - wide.mean(-1, keepdims=True)) / np.sqrt(wide.var(-1, keepdims=True) + 1e-6)
    expected = normalized * np.asarray(norm.gain) + np.asarray(norm.bias)
    np.testing.assert_allclose(jax.jit(norm)(x), expected, atol=1e-5)


def test_gradients_of_layer_norm_equal_finite_differences():
    x, gain, bias = normal(1, 2, 3, 6) + 2, normal(2, 6), normal(3, 6)
    norm = jax.jit(lambda x, gain, bias: jnp.sin(layers.layer_norm(x, gain, bias, 1e-2)))
    check_grads(norm, (x, gain, bias), order=1, modes=["rev"], atol=1e-2, rtol=1e-2)


def test_layer_norm_is_computed_in_float32():
    """The mean, 1005, is not representable in bfloat16, whose spacing is 4 there."""
    x = jnp.asarray([1000.0, 1004.0, 1004.0, 1012.0], jnp.bfloat16)
    found = jax.jit(layers.LayerNorm(4))(x)
    assert found.dtype == jnp.bfloat16
    expected = np.array([-5, -1, -1, 7]) / math.sqrt(19)
    np.testing.assert_allclose(found.astype(jnp.float32), expected, atol=5e-3)


def test_feed_forward_equals_numpy():
    layer = with_random_params(lambda: layers.FeedForward(4, 9, key=jax.random.key(0)))
    x = normal(1, 2, 3, 4)
    names = ("kernel_in", "bias_in", "kernel_out", "bias_out")
    w1, b1, w2, b2 = (np.asarray(getattr(layer, name)[...]) for name in names)
    expected = np.maximum(0, np.asarray(x) @ w1 + b1) @ w2.T + b2
    np.testing.assert_allclose(jax.jit(layer)(x), expected, atol=1e-5)


def test_multi_head_attention_equals_its_definition():
    """Concat(head_1, ..., head_H) W^O with head_i = Attention(Q W_i^Q, K W_i^K, V W_i^V)."""
    d, h = 5, 2
    layer = with_random_params(lambda: layers.MultiHeadAttention(d, h, 3, 4, key=jax.random.key(0)))
    w = {name: np.asarray(x[...], np.float64) for name, x in nnx.state(layer).items()}
    x, memory = (np.asarray(normal(seed, size, d)) for seed, size in ((1, 3), (2, 4)))
    heads = [
        naive.attend(
            x @ w["query"][:, i] + w["query_bias"][i],
            memory @ w["key"][:, i] + w["key_bias"][i],
            memory @ w["value"][:, i] + w["value_bias"][i],
        )
        for i in range(h)
    ]
    concatenated = np.concatenate(heads, axis=-1)
    expected = concatenated @ w["output"].reshape(-1, d) + w["output_bias"]
    found, _ = jax.jit(lambda x, memory: layer(x, layer.project(memory)))(x[None], memory[None])
    np.testing.assert_allclose(found[0], expected, rtol=1e-4, atol=1e-4)


def test_embedding_and_logits_share_one_matrix():
    embedding = with_random_params(lambda: layers.Embedding(7, 4, key=jax.random.key(0)))
    table = np.asarray(embedding.table[...])
    tokens = jnp.array([[3, 0, 6]])
    expected = 2.0 * table[[[3, 0, 6]]]
    found = jax.jit(lambda tokens: embedding(tokens, jnp.dtype("float32")))(tokens)
    np.testing.assert_allclose(found, expected, atol=1e-6)
    np.testing.assert_allclose(jax.jit(embedding.logits)(found), expected @ table.T, atol=1e-5)


def test_embedding_gradients_are_summed_in_float32():
    """A sum of 2,000 ones in bfloat16 would stop at 256."""
    table = layers.Embedding(3, 4, key=jax.random.key(0))
    tokens = jnp.ones(2_000, jnp.int32)
    total = lambda table: jnp.sum(table(tokens, jnp.dtype("bfloat16")).astype(jnp.float32))
    found = jax.jit(nnx.grad(total))(table).table[...]
    np.testing.assert_array_equal(found, 2 * np.array([[0.0], [2_000.0], [0.0]]) * np.ones(4))


def test_glorot_is_uniform_within_its_bound():
    sample = np.asarray(layers.glorot(jax.random.key(0), (300, 200), 300, 200))
    limit = math.sqrt(6 / 500)
    assert abs(sample).max() <= limit
    np.testing.assert_allclose(sample.std(), limit / math.sqrt(3), rtol=0.01)
    assert abs(sample.mean()) < SIGMAS * limit / math.sqrt(3 * sample.size)


drop = jax.jit(layers.dropout, static_argnums=1)


def binomial_bound(count, probability):
    """Bound on the deviation of a relative frequency from its probability."""
    return SIGMAS * math.sqrt(probability * (1 - probability) / count)


@pytest.mark.parametrize("rate", [0.1, 0.3, 0.9])
def test_dropout_zeroes_the_given_fraction_and_preserves_the_mean(rate):
    dropped = np.asarray(drop(np.ones((ROWS, COLUMNS), np.float32), rate, jax.random.key(1)))
    assert abs((dropped == 0).mean() - rate) < binomial_bound(dropped.size, rate)
    np.testing.assert_allclose(np.unique(dropped), [0, 1 / (1 - rate)], rtol=1e-6)
    assert abs(dropped.mean() - 1) < binomial_bound(dropped.size, rate) / (1 - rate)
    # The fraction is the same in every row and column.
    for axis in (0, 1):
        fractions = (dropped == 0).mean(axis)
        assert abs(fractions - rate).max() < binomial_bound(dropped.shape[axis], rate)


def test_dropout_depends_on_the_key_only():
    x = normal(0, 16, 16)
    masks = [np.asarray(drop(x, 0.5, jax.random.key(seed))) == 0 for seed in (0, 0, 1)]
    np.testing.assert_array_equal(masks[0], masks[1])
    agreement = float((masks[0] == masks[2]).mean())
    assert abs(agreement - 0.5) < binomial_bound(x.size, 0.5)


def test_dropout_without_key_or_rate_is_the_identity():
    x = normal(0, 4, 4)
    np.testing.assert_array_equal(layers.dropout(x, 0.5, None), x)
    np.testing.assert_array_equal(layers.dropout(x, 0.0, jax.random.key(0)), x)


def test_gradient_of_dropout_is_its_mask():
    x, key = jnp.ones((8, 8)), jax.random.key(0)
    gradient = jax.jit(jax.grad(lambda x: drop(x, 0.25, key).sum()))(x)
    np.testing.assert_array_equal(gradient, drop(x, 0.25, key))


def test_dropout_preserves_the_dtype():
    x = jnp.ones((8, 8), jnp.bfloat16)
    assert (
        jax.eval_shape(partial(layers.dropout, rate=0.5), x, key=jax.random.key(0)).dtype == x.dtype
    )


def unpack_bits(words):
    """Bits `[..., 32]` of 32-bit words."""
    return (np.asarray(words)[..., None] >> np.arange(32, dtype=np.uint32)) & 1


@pytest.fixture(scope="module")
def bits():
    """Bits for four keys, two from consecutive seeds and two from a split."""
    keys = [jax.random.key(0), jax.random.key(1), *jax.random.split(jax.random.key(2))]
    hash_bits = jax.jit(layers.hash_bits, static_argnums=1)
    return unpack_bits(np.stack([hash_bits(key, (64, COLUMNS)) for key in keys]))


def test_each_bit_is_balanced(bits):
    fractions = bits.reshape(4, -1, 32).mean(1)
    assert abs(fractions - 0.5).max() < binomial_bound(64 * COLUMNS, 0.5)


def test_bits_of_consecutive_keys_are_independent(bits):
    for one, other in pairwise(bits):
        agreement = (one == other).reshape(-1, 32).mean(0)
        assert abs(agreement - 0.5).max() < binomial_bound(64 * COLUMNS, 0.5)


@pytest.mark.parametrize("rows, columns", [(0, 1), (0, 2), (1, 0), (1, 1), (8, 0)])
def test_bits_of_neighboring_positions_are_independent(bits, rows, columns):
    first = bits[:, : 64 - rows, : COLUMNS - columns]
    second = bits[:, rows:, columns:]
    agreement = (first == second).reshape(4, -1, 32).mean(1)
    assert abs(agreement - 0.5).max() < binomial_bound(first[0, ..., 0].size, 0.5)


def test_bits_of_one_word_are_independent(bits):
    signs = 2.0 * bits[0].reshape(-1, 32) - 1
    correlation = signs.T @ signs / len(signs)
    assert abs(correlation - np.eye(32)).max() < 2 * binomial_bound(len(signs), 0.5)


@pytest.mark.parametrize("byte", range(4))
def test_bytes_are_uniform_by_chi_square(bits, byte):
    """Chi-square with 255 degrees of freedom: mean 255, variance 510. The test is two-sided."""
    values = bits[0].reshape(-1, 4, 8)[:, byte] @ (1 << np.arange(8))
    counts = np.bincount(values, minlength=256)
    expected = values.size / 256
    statistic = ((counts - expected) ** 2 / expected).sum()
    assert abs(statistic - 255) < SIGMAS * math.sqrt(510)


@pytest.mark.parametrize("name", ["int32", "complex64", "float64", "O", ""])
def test_other_dtypes_of_activations_are_rejected(name):
    with pytest.raises(ValueError, match="dtype must be 'float32', 'bfloat16' or 'float16'"):
        layers.activation_dtype(name)
    assert layers.activation_dtype("bfloat16") == jnp.bfloat16
