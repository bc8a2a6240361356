"""Memory addressing and writing against loops, hand-computed values, and extreme inputs."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jax.test_util import check_grads

from attention import read
from attention.memory import HeadParameters, address, interpolate, sharpen, shift, write
from tests import naive
from tests.models.tiny import unoptimized_jit

B, N, M, H = 2, 6, 3, 2
seeds = st.integers(0, 10_000)
few_examples = settings(max_examples=20, deadline=None, derandomize=True)

jit_shift = unoptimized_jit(shift)
jit_sharpen = unoptimized_jit(sharpen)
jit_write = unoptimized_jit(write)


def softmax(x):
    weights = np.exp(x - np.max(x, axis=-1, keepdims=True))
    return np.float32(weights / weights.sum(-1, keepdims=True))


def sigmoid(x):
    return np.float32(1 / (1 + np.exp(-x)))


def random_inputs(seed, extreme=False):
    """Memory, previous weightings and head parameters; `extreme` selects values at the limits."""
    rng = np.random.default_rng(seed)
    scale = 30.0 if extreme else 1.0
    normal = lambda *shape: np.float32(scale * rng.normal(size=shape))
    heads = HeadParameters(
        key=normal(B, H, M) * (rng.random((B, H, 1)) > 0.3 * extreme),
        strength=np.logaddexp(0, normal(B, H)),
        gate=sigmoid(normal(B, H)),
        shift=softmax(normal(B, H, 3)),
        sharpness=np.float32(np.where(rng.random((B, H)) < 0.5, 1, 100))
        if extreme
        else 1 + normal(B, H) ** 2,
    )
    return (
        normal(B, M, N) * (rng.random((B, 1, N)) > 0.3 * extreme),
        softmax(normal(B, H, N)),
        heads,
    )


@unoptimized_jit
def addressing_steps(memory, previous, heads):
    """Weightings after interpolation, shift and sharpening, and the result of `address`."""
    gated = interpolate(jax.nn.softmax(memory[:, :H]), previous, heads.gate)
    shifted = shift(gated, heads.shift)
    return gated, shifted, sharpen(shifted, heads.sharpness), address(memory, previous, heads)


@few_examples
@given(seeds)
def test_address_equals_loops(seed):
    memory, previous, heads = random_inputs(seed)
    *_, actual = addressing_steps(memory, previous, heads)
    for b in range(B):
        for h in range(H):
            parameters = (np.asarray(x[b, h], np.float64) for x in heads)
            expected = naive.address(memory[b].T, previous[b, h], *parameters)
            np.testing.assert_allclose(actual[b, h], expected, atol=2e-5)


@few_examples
@given(seeds, st.booleans())
def test_weightings_sum_to_one_after_every_addressing_step(seed, extreme):
    for weights in jax.device_get(addressing_steps(*random_inputs(seed, extreme))):
        np.testing.assert_allclose(weights.sum(-1), 1.0, atol=1e-5)
        assert np.all(weights >= 0)


@pytest.mark.parametrize("radius", [2, 9])
@few_examples
@given(st.integers(-2, 2), seeds)
def test_one_hot_shift_is_a_circular_permutation(radius, by, seed):
    """The opposite shift inverts the permutation."""
    weights = softmax(np.random.default_rng(seed).normal(size=(B, 21)))
    one_hot = np.float32(np.tile(np.arange(-radius, radius + 1) == by, (B, 1)))
    shifted = jit_shift(weights, one_hot)
    np.testing.assert_array_equal(shifted, np.roll(weights, by, axis=-1))
    np.testing.assert_array_equal(jit_shift(shifted, one_hot[:, ::-1]), weights)


def test_even_number_of_shifts_is_rejected():
    with pytest.raises(ValueError, match="must be odd, not 2"):
        shift(jnp.ones((1, 4)), jnp.ones((1, 2)))


def test_write_to_bfloat16_memory_has_gradients_in_the_dtypes_of_the_arguments():
    memory, weights = np.ones((2, 3), jnp.bfloat16), np.ones((1, 3), np.float32)
    vectors = np.ones((1, 2), np.float32)
    gradient = unoptimized_jit(jax.grad(lambda *x: write(*x).sum(), argnums=(0, 1, 2, 3)))
    gradients = gradient(memory, weights, vectors, vectors)
    dtypes = [x.dtype for x in gradients]
    assert dtypes == [jnp.bfloat16, jnp.float32, jnp.float32, jnp.float32]
    np.testing.assert_array_equal(gradients[2], [[-3.0, -3.0]])


def test_shift_sharpen_write_and_read_equal_hand_computed_values():
    array = partial(np.array, dtype=np.float32)
    shifted = jit_shift(array([[0, 0, 0, 1]]), array([[0, 0.1, 0.9]]))
    np.testing.assert_allclose(shifted, [[0.9, 0, 0, 0.1]])
    sharpened = jit_sharpen(array([[0.2, 0.8, 0]]), array([2]))
    np.testing.assert_allclose(sharpened, [[1 / 17, 16 / 17, 0]], atol=1e-6)
    memory = array([[1, 2], [3, 4]])  # [N, M], as in the paper
    weights, erase, add = (
        array(x) for x in ([[1, 0], [0.5, 0.5]], [[1, 0], [0.5, 1]], [[10, 0], [0, 2]])
    )
    written = jax.device_get(jit_write(memory.T, weights, erase, add)).T
    expected = [[0.0 + 10, 2 * 0.5 + 1], [3 * 0.75, 4 * 0.5 + 1]]
    np.testing.assert_allclose(written, expected, atol=1e-6)
    np.testing.assert_allclose(jax.jit(read)(weights, memory), [[1, 2], [2, 3]], atol=1e-6)


@few_examples
@given(seeds)
def test_write_equals_loops_in_any_order_of_heads(seed):
    rng = np.random.default_rng(seed)
    memory, add = (np.float32(rng.normal(size=shape)) for shape in ((B, M, N), (B, H, M)))
    weights, erase = softmax(rng.normal(size=(B, H, N))), np.float32(rng.random((B, H, M)))
    actual = jax.device_get(jit_write(memory, weights, erase, add))
    expected = naive.map_batch(naive.write, memory.swapaxes(1, 2), weights, erase, add)
    np.testing.assert_allclose(actual.swapaxes(1, 2), expected, atol=1e-5)
    reversed_heads = jit_write(memory, weights[:, ::-1], erase[:, ::-1], add[:, ::-1])
    np.testing.assert_allclose(reversed_heads, actual, atol=1e-5)


@pytest.mark.parametrize("seed", range(3))
def test_gradients_equal_finite_differences(seed):
    memory, previous, heads = random_inputs(seed)
    gates = sigmoid(heads.key)
    options = {"order": 1, "modes": ["rev"], "atol": 0.02, "rtol": 0.02}
    check_grads(jax.jit(address), (memory, previous, heads), **options)
    check_grads(jax.jit(write), (memory, previous, gates, heads.key), **options)


@unoptimized_jit
@partial(jax.value_and_grad, argnums=(0, 1, 2), has_aux=True)
def mean_position(memory, previous, heads):
    """Mean row index of all weightings, and the weightings."""
    weights = address(memory, previous, heads)
    return jnp.sum(weights * jnp.arange(N)), weights


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
@few_examples
@given(seed=seeds, focused=st.booleans())
def test_address_and_gradients_are_finite_at_extreme_inputs(dtype, seed, focused):
    """Zero keys and rows, one-hot weightings, and sharpness 1 and 100."""
    memory, previous, heads = random_inputs(seed, extreme=True)
    if focused:
        previous = np.float32(previous == previous.max(-1, keepdims=True))
        heads = heads._replace(gate=np.zeros((B, H)), shift=np.tile([0.0, 0.0, 1.0], (B, H, 1)))
    cast = lambda x: x.astype(dtype)
    arguments = jax.tree.map(cast, (memory, previous, heads))
    (_, weights), gradients = jax.device_get(mean_position(*arguments))
    for x in jax.tree.leaves((weights, gradients)):
        assert np.isfinite(x.astype(np.float32)).all()
    np.testing.assert_allclose(weights.sum(-1), 1.0, atol=1e-5)
