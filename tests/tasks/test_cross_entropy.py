"""Chunked cross-entropy: values, gradients and memory."""

import math
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tasks.cross_entropy import linear_cross_entropy
from tests import naive
from tests.commands import run_with_devices

# Compilation dominates the time of these tests; the optimization level does not change results.
unoptimized_jit = partial(jax.jit, compiler_options={"xla_backend_optimization_level": 0})


def inputs(shape, d, v, seed=0, dtype=jnp.float32):
    rng = np.random.default_rng(seed)
    states, table = (jnp.asarray(rng.normal(size=s), dtype) for s in ((*shape, d), (v, d)))
    valid = rng.random(shape) < rng.choice([0.0, 0.3, 0.7, 1.0])
    return states, table, jnp.asarray(rng.integers(0, v, shape)), jnp.asarray(valid)


INDIVISIBLE_BATCH = """
import json
import jax
import numpy as np
from tasks.cross_entropy import linear_cross_entropy
from training import mesh

rng = np.random.default_rng(0)
table = mesh.replicate(rng.normal(size=(7, 4)), mesh.make_mesh(data=1, fsdp=-1, tensor=1))
losses = {}
for size in (8, 9):
    states, labels = rng.normal(size=(size, 5, 4)), rng.integers(0, 7, (size, 5))
    expected = linear_cross_entropy(states, np.asarray(table), labels, labels > 1)
    with mesh.evaluation_mesh(table) as shard:
        batch = shard((states, labels, labels > 1))
        loss = jax.jit(lambda table, x: linear_cross_entropy(x[0], table, *x[1:]))(table, batch)
    losses[size] = [float(loss), float(expected)]
print(json.dumps(losses))
"""


def test_the_batch_need_not_be_a_multiple_of_the_devices():
    losses = run_with_devices(3, "-c", INDIVISIBLE_BATCH)
    assert losses.keys() == {"8", "9"}
    for loss, expected in losses.values():
        assert loss == pytest.approx(expected, rel=1e-5)


def plain(states, table, labels, valid, smoothing=0.0):
    """Compute the cross-entropy with all logits in memory."""
    log_probs = jax.nn.log_softmax(states @ table.T)
    on_label = jnp.take_along_axis(log_probs, labels[..., None], axis=-1)[..., 0]
    expected = (1 - smoothing) * on_label + smoothing * log_probs.mean(-1)
    return -jnp.sum(jnp.where(valid, expected, 0.0))


def with_gradients(function, **settings):
    """Value and gradients with respect to states and table of three times the loss."""
    scaled = lambda *x: 3.0 * function(*x, **settings)
    return unoptimized_jit(jax.value_and_grad(scaled, (0, 1)))


@settings(max_examples=6, deadline=None, derandomize=True)
@given(
    shape=st.sampled_from([(1,), (7,), (2, 3), (3, 4), (2, 2, 2)]),
    d=st.integers(1, 5),
    v=st.integers(2, 9),
    chunk=st.sampled_from([1, 3, 4, 256]),
    smoothing=st.sampled_from([0.0, 0.1, 0.6]),
)
def test_value_and_gradients_equal_loops(shape, d, v, chunk, smoothing):
    ours = with_gradients(linear_cross_entropy, smoothing=smoothing, chunk=chunk)
    for seed in range(3):
        case = inputs(shape, d, v, seed)
        states, table, labels, valid = (np.asarray(x) for x in case)

        def loops(states, table, labels=labels, valid=valid):
            rows = (states.reshape(-1, d), table, labels.ravel(), valid.ravel())
            return 3 * naive.cross_entropy(*rows, smoothing)

        value, (d_states, d_table) = ours(*case)
        np.testing.assert_allclose(value, loops(states, table), rtol=1e-5, atol=1e-5)
        by_states = naive.gradient(lambda x, table=table: loops(x, table), states)
        np.testing.assert_allclose(d_states, by_states, atol=1e-5)
        by_table = naive.gradient(lambda x, states=states: loops(states, x), table)
        np.testing.assert_allclose(d_table, by_table, atol=1e-5)


def test_value_equals_hand_computed_value():
    """Logits log 1, log 2, log 5; the label has probability 2/8; smoothing 0.3 adds 0.1 each."""
    states, table = jnp.array([[1.0]]), jnp.log(jnp.array([[1.0], [2.0], [5.0]]))
    label, valid = jnp.array([1]), jnp.array([True])
    assert linear_cross_entropy(states, table, label, valid) == pytest.approx(math.log(4))
    smoothed = -(0.1 * math.log(1 / 8) + 0.8 * math.log(2 / 8) + 0.1 * math.log(5 / 8))
    found = linear_cross_entropy(states, table, label, valid, smoothing=0.3)
    assert found == pytest.approx(smoothed)


def test_loss_without_valid_positions_is_zero():
    states, table, labels, _ = inputs((2, 3), 4, 5)
    ours = with_gradients(linear_cross_entropy, smoothing=0.1, chunk=4)
    value, gradients = ours(states, table, labels, jnp.zeros((2, 3), bool))
    assert value == 0
    assert not any(gradient.any() for gradient in gradients)


def test_invalid_positions_do_not_affect_loss_and_gradients():
    states, table, labels, _ = inputs((2, 3), 4, 5)
    valid = jnp.array([[True, False, True], [False, False, True]])
    ours = with_gradients(linear_cross_entropy, smoothing=0.1, chunk=4)
    one = ours(states, table, labels, valid)
    other_states = jnp.where(valid[..., None], states, 1e6)
    other = ours(other_states, table, jnp.where(valid, labels, 0), valid)
    for x, y in zip(jax.tree.leaves(one), jax.tree.leaves(other), strict=True):
        np.testing.assert_array_equal(x, y)
    d_states = one[1][0]
    np.testing.assert_array_equal(abs(d_states).sum(-1) > 0, valid)


def test_large_logits_do_not_overflow():
    states = jnp.array([[1e4], [-1e4]])
    table, labels = jnp.array([[1.0], [-1.0]]), jnp.array([0, 0])
    value, gradients = with_gradients(linear_cross_entropy)(
        states, table, labels, jnp.array([True, True])
    )
    assert value == pytest.approx(3 * 2e4)
    assert all(jnp.isfinite(gradient).all() for gradient in gradients)


def test_bfloat16_gradients_are_summed_in_float32():
    """A sum of 512 positions in bfloat16 would be off by several percent."""
    case = inputs((512,), 8, 16, seed=1, dtype=jnp.bfloat16)
    wide = (*(x.astype(jnp.float32) for x in case[:2]), *case[2:])
    value, gradients = with_gradients(linear_cross_entropy, smoothing=0.1)(*case)
    expected, expected_gradients = with_gradients(plain, smoothing=0.1)(*wide)
    assert value.dtype == jnp.float32
    np.testing.assert_allclose(value, expected, rtol=1e-4)
    for found, gradient in zip(gradients, expected_gradients, strict=True):
        assert found.dtype == jnp.bfloat16
        error = abs(found.astype(jnp.float32) - gradient).max()
        assert error < 0.01 * abs(gradient).max()


def test_logits_are_never_stored():
    """Temporary memory of the compiled value and gradients; nothing is executed."""
    positions, d, v = 8192, 16, 32_000
    case = (
        jax.ShapeDtypeStruct((positions, d), jnp.float32),
        jax.ShapeDtypeStruct((v, d), jnp.float32),
        jax.ShapeDtypeStruct((positions,), jnp.int32),
        jax.ShapeDtypeStruct((positions,), jnp.bool_),
    )

    def temporaries(function):
        compiled = jax.jit(jax.value_and_grad(function, (0, 1))).lower(*case).compile()
        return compiled.memory_analysis().temp_size_in_bytes

    logits = positions * v * 4
    assert temporaries(partial(plain, smoothing=0.1)) >= logits
    assert temporaries(partial(linear_cross_entropy, smoothing=0.1)) < logits / 10
