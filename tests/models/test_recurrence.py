"""The scan with its own derivative against jax's; the layers against their equations."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

from models.recurrence import GRU, LSTM, run, scan

T, B, H, D = 5, 3, 4, 2
LENGTHS = np.array([5, 3, 0])
VALID = jnp.arange(T) < LENGTHS[:, None]


def normal(seed, *shape):
    return jnp.asarray(np.random.default_rng(seed).normal(size=shape), jnp.float32)


def step(product, consts, carry, x):
    """Two products by one weight, one by another; integers and masks on every side."""
    (hidden, count), (keys, seen) = carry, consts
    mixed = product("u", hidden) + x["x"] + product("v", product("u", jnp.sin(hidden)))
    new = jnp.where(x["valid"][:, None], jnp.tanh(mixed) * keys, hidden) + 0.1 * count
    return (jnp.where(seen, new, hidden), count + 1), (new[:, :2], count)


@pytest.mark.parametrize("reverse", [False, True])
def test_scan_equals_that_of_jax_and_so_do_its_gradients(reverse):
    weights = {"u": normal(0, H, H), "v": normal(1, H, H)}
    seen = jnp.arange(B * H).reshape(B, H) % 3 > 0

    def theirs(weights, consts, carry, xs):
        body = lambda carry, x: step(lambda name, z: z @ weights[name], consts, carry, x)
        return lax.scan(body, carry, xs, reverse=reverse)

    def ours(weights, consts, carry, xs):
        return scan(step, weights, consts, carry, xs, reverse=reverse)

    def outcome(form, weights, keys, hidden, x):
        xs = {"x": x, "valid": VALID.T}
        (last, count), (ys, counts) = form(weights, (keys, seen), (hidden, jnp.int32(0)), xs)
        assert count.dtype == counts.dtype == jnp.int32
        return jnp.sum(jnp.sin(ys) * (1 + counts[:, None, None])) + jnp.sum(last**2), (ys, last)

    inputs = (weights, normal(2, B, H), normal(3, B, H), normal(4, T, B, H))
    found, expected = (
        jax.jit(jax.value_and_grad(partial(outcome, form), range(4), has_aux=True))(*inputs)
        for form in (ours, theirs)
    )
    jax.tree.map(partial(np.testing.assert_allclose, rtol=1e-4, atol=1e-5), found, expected)


def test_gradients_of_what_every_step_reads_add_up_in_float32():
    """A thousand times one: a sum of bfloat16 would stay at 256."""

    def add(product, consts, carry, x):
        del product, x
        return carry, carry + consts

    def total(const):
        ys = scan(add, {}, const, jnp.bfloat16(0), jnp.zeros(1_000, jnp.bfloat16))[1]
        return jnp.sum(ys.astype(jnp.float32))

    assert jax.jit(jax.grad(total))(jnp.bfloat16(0)) == 1_000


@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize("steps", [0, 3, T])
def test_fewer_steps_are_a_shorter_input(steps, reverse):
    """Their number is traced; what lies beyond has outputs and gradients of zero."""
    weights = {"u": normal(0, H, H), "v": normal(1, H, H)}
    seen, xs = jnp.ones((B, H), bool), {"x": normal(4, T, B, H), "valid": VALID.T}

    def outcome(weights, carry, x, count=None, length=T):
        part = jax.tree.map(lambda x: x[:length], xs | {"x": x})
        start = carry, jnp.int32(0)
        (last, _), (ys, _) = scan(step, weights, (carry, seen), start, part, count, reverse=reverse)
        assert len(ys) == length
        return jnp.sum(jnp.sin(ys)) + jnp.sum(last**2)

    gradients = jax.value_and_grad(outcome, (0, 1, 2))
    arguments = weights, normal(3, B, H), xs["x"]
    found = jax.jit(gradients)(*arguments, jnp.int32(steps))
    if steps:
        expected = jax.jit(partial(gradients, length=steps))(*arguments)
    else:
        zeros = jax.tree.map(jnp.zeros_like, arguments)
        carry = arguments[1]
        expected = jnp.sum(carry**2), (zeros[0], 2 * carry, zeros[2])
    jax.tree.map(partial(np.testing.assert_allclose, rtol=1e-4, atol=1e-5), found, expected)


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def lstm_loop(layer, x):
    """Gers et al. 2000, one sentence; gates in the order input, forget, output, candidate."""
    w, u, b = (np.asarray(p[...], np.float64) for p in (layer.input, layer.recurrent, layer.bias))
    hidden = cell = np.zeros(u.shape[0])
    outputs = []
    for row in np.asarray(x, np.float64):
        i, f, o, z = np.split(row @ w + hidden @ u + b, 4)
        cell = sigmoid(f) * cell + sigmoid(i) * np.tanh(z)
        hidden = sigmoid(o) * np.tanh(cell)
        outputs.append(hidden)
    return np.array(outputs)


def gru_loop(layer, x):
    """Bahdanau et al. 2015, app. A.1.1, one sentence."""
    w, b = np.asarray(layer.input[...], np.float64), np.asarray(layer.bias[...], np.float64)
    gates, candidate = (np.asarray(p[...], np.float64) for p in (layer.gates, layer.candidate))
    hidden = np.zeros(len(candidate))
    outputs = []
    for row in np.asarray(x, np.float64):
        z, r, new = np.split(row @ w + b, 3)
        u_z, u_r = np.split(hidden @ gates, 2)
        z, r = sigmoid(z + u_z), sigmoid(r + u_r)
        hidden = (1 - z) * hidden + z * np.tanh(new + (r * hidden) @ candidate)
        outputs.append(hidden)
    return np.array(outputs)


@pytest.mark.parametrize("kind, loop", [(LSTM, lstm_loop), (GRU, gru_loop)])
def test_layers_equal_loops_in_both_directions_and_padding_changes_nothing(kind, loop):
    layer, x = kind(D, H, key=jax.random.key(0)), normal(5, B, T, D)
    layer.bias[...] = normal(6, *layer.bias.shape)
    form = jax.jit(run, static_argnames="reverse")
    outputs, last = form(layer, x, VALID)
    backward, first = form(layer, x, VALID, reverse=True)
    for b, n in enumerate(LENGTHS):
        if not n:
            continue
        np.testing.assert_allclose(outputs[b, :n], loop(layer, x[b, :n]), atol=1e-5)
        np.testing.assert_array_equal(jax.tree.leaves(last)[0][b], outputs[b, n - 1])
        np.testing.assert_allclose(backward[b, :n], loop(layer, x[b, :n][::-1])[::-1], atol=1e-5)
        np.testing.assert_array_equal(jax.tree.leaves(first)[0][b], backward[b, 0])
    assert not outputs[-1].any() and not backward[-1].any()
