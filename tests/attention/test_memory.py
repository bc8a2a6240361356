"""Addressing and writing of a memory against loops, by hand, and at the extremes."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jax.test_util import check_grads

from attention import read
from attention.memory import Addressing, address, interpolate, sharpen, shift, write
from tests import naive

B, N, M, H = 2, 6, 3, 2
seeds = st.integers(0, 10_000)
quick = settings(max_examples=20, deadline=None, derandomize=True)


def softmax(x):
    return jax.nn.softmax(jnp.asarray(x, jnp.float32))


def drawn(seed, extreme=False):
    """A memory, weights before, and what is said to the heads; or all of it at its limits."""
    rng = np.random.default_rng(seed)
    scale = 30.0 if extreme else 1.0
    normal = lambda *shape: jnp.asarray(scale * rng.normal(size=shape), jnp.float32)
    heads = Addressing(
        key=normal(B, H, M) * (rng.random((B, H, 1)) > 0.3 * extreme),
        strength=jax.nn.softplus(normal(B, H)),
        gate=jax.nn.sigmoid(normal(B, H)),
        shift=softmax(normal(B, H, 3)),
        sharpness=jnp.where(rng.random((B, H)) < 0.5, 1.0, 100.0)
        if extreme
        else 1 + normal(B, H) ** 2,
    )
    return (
        normal(B, M, N) * (rng.random((B, 1, N)) > 0.3 * extreme),
        softmax(normal(B, H, N)),
        heads,
    )


run = jax.jit(address)


@quick
@given(seeds)
def test_the_chain_equals_loops(seed):
    memory, previous, heads = drawn(seed)
    found = run(memory, previous, heads)
    for b in range(B):
        for h in range(H):
            told = (np.asarray(x[b, h], np.float64) for x in heads)
            expected = naive.address(memory[b].T, previous[b, h], *told)
            np.testing.assert_allclose(found[b, h], expected, atol=2e-5)


@quick
@given(seeds, st.booleans())
def test_weights_sum_to_one_after_every_step_of_the_chain(seed, extreme):
    memory, previous, heads = drawn(seed, extreme)
    gated = interpolate(softmax(memory[:, :H]), previous, heads.gate)
    moved = shift(gated, heads.shift)
    for weights in (gated, moved, sharpen(moved, heads.sharpness), run(memory, previous, heads)):
        np.testing.assert_allclose(weights.sum(-1), 1.0, atol=1e-5)
        assert jnp.all(weights >= 0)


@quick
@given(st.integers(-2, 2), st.integers(2, 9), seeds)
def test_a_certain_shift_is_a_permutation(by, radius, seed):
    """By `by` rows, from the last to the first; there and back is where one was."""
    weights = softmax(np.random.default_rng(seed).normal(size=(B, 21)))
    certain = jnp.broadcast_to(jax.nn.one_hot(radius + by, 2 * radius + 1), (B, 2 * radius + 1))
    moved = shift(weights, certain)
    np.testing.assert_array_equal(moved, np.roll(weights, by, axis=-1))
    np.testing.assert_array_equal(shift(moved, certain[:, ::-1]), weights)


def test_shifts_have_a_middle():
    with pytest.raises(ValueError, match="an odd number, not 2"):
        shift(jnp.eye(4)[:1], jnp.array([[0.5, 0.5]]))


def test_a_memory_of_half_precision_has_gradients():
    memory, weights, vectors = jnp.ones((2, 3), jnp.bfloat16), jnp.ones((1, 3)), jnp.ones((1, 2))
    loss = lambda *x: write(*x).sum()
    gradients = jax.grad(loss, argnums=(0, 1, 2, 3))(memory, weights, vectors, vectors)
    dtypes = [x.dtype for x in gradients]
    assert dtypes == [jnp.bfloat16, jnp.float32, jnp.float32, jnp.float32]
    np.testing.assert_array_equal(gradients[2], [[-3.0, -3.0]])


def test_by_hand():
    """A head on row 1 of 4 that does not look, shifts on by one, and is sharp enough."""
    moved = shift(jnp.eye(4)[3:], jnp.array([[0.0, 0.1, 0.9]]))
    np.testing.assert_allclose(moved, [[0.9, 0, 0, 0.1]])
    sharp = sharpen(jnp.array([[0.2, 0.8, 0.0]]), jnp.array([2.0]))
    np.testing.assert_allclose(sharp, [[1 / 17, 16 / 17, 0]], atol=1e-6)
    memory = jnp.array([[1.0, 2.0], [3.0, 4.0]])  # as in the paper, a row a line
    weights, erase = jnp.array([[1.0, 0.0], [0.5, 0.5]]), jnp.array([[1.0, 0.0], [0.5, 1.0]])
    add = jnp.array([[10.0, 0.0], [0.0, 2.0]])
    written = [[0.0 + 10, 2 * 0.5 + 1], [3 * 0.75, 4 * 0.5 + 1]]
    np.testing.assert_allclose(write(memory.T, weights, erase, add).T, written, atol=1e-6)
    np.testing.assert_allclose(read(weights, memory), [[1, 2], [2, 3]], atol=1e-6)


@quick
@given(seeds)
def test_writing_equals_loops_and_heads_commute(seed):
    rng = np.random.default_rng(seed)
    memory, add = (jnp.asarray(rng.normal(size=s), jnp.float32) for s in ((B, M, N), (B, H, M)))
    weights, erase = softmax(rng.normal(size=(B, H, N))), jnp.asarray(rng.random((B, H, M)), "f")
    found = write(memory, weights, erase, add)
    expected = naive.rows(naive.write, memory.mT, weights, erase, add)
    np.testing.assert_allclose(found.mT, expected, atol=1e-5)
    turned = write(memory, weights[:, ::-1], erase[:, ::-1], add[:, ::-1])
    np.testing.assert_allclose(turned, found, atol=1e-5)


@pytest.mark.parametrize("seed", range(3))
def test_gradients_are_those_of_finite_differences(seed):
    memory, previous, heads = drawn(seed)
    gates = jax.nn.sigmoid(heads.key)
    near = {"order": 1, "modes": ["rev"], "atol": 0.02, "rtol": 0.02}
    check_grads(run, (memory, previous, heads), **near)
    check_grads(jax.jit(write), (memory, previous, gates, heads.key), **near)


@jax.jit
@partial(jax.value_and_grad, argnums=(0, 1, 2), has_aux=True)
def place(memory, previous, heads):
    """Where the heads are on the average, all of them together; and their weights."""
    weights = address(memory, previous, heads)
    return jnp.sum(weights * jnp.arange(N)), weights


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
@quick
@given(seed=seeds, focused=st.booleans())
def test_finite_at_the_extremes(dtype, seed, focused):
    """Keys and rows of zeros, one-hot weights, sharpness of 1 and 100: values and gradients."""
    memory, previous, heads = drawn(seed, extreme=True)
    if focused:
        previous = jax.nn.one_hot(jnp.argmax(previous, -1), N)
        heads = heads._replace(gate=jnp.zeros((B, H)), shift=jnp.zeros((B, H, 3)).at[..., 2].set(1))
    cast = lambda x: x.astype(dtype)
    (_, weights), gradients = place(*jax.tree.map(cast, (memory, previous, heads)))
    assert all(bool(jnp.all(jnp.isfinite(x))) for x in jax.tree.leaves((weights, gradients)))
    np.testing.assert_allclose(weights.sum(-1), 1.0, atol=1e-5)
