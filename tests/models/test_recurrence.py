"""`rnn_scan` against `lax.scan`; recurrent layers against loops over their equations."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

from models.gradient_clipping import clip_step
from models.recurrence import GRU, LSTM, rnn_scan, unroll
from tests.models.tiny import unoptimized_jit, with_random_params

T, B, H, D = 5, 3, 4, 2
LENGTHS = np.array([5, 3, 0])
VALID = np.arange(T) < LENGTHS[:, None]


def normal(seed, *shape):
    return np.float32(np.random.default_rng(seed).normal(size=shape))


WEIGHTS = {"u": normal(0, H, H), "v": normal(1, H, H)}
MASK = np.arange(B * H).reshape(B, H) % 3 > 0


def step(matmul, consts, carry, x):
    """RNN step with repeated use of one weight, and with integers and masks in its pytrees."""
    (hidden, count), (keys, mask) = carry, consts
    mixed = matmul("u", hidden) + x["x"] + matmul("v", matmul("u", jnp.sin(hidden)))
    new = jnp.where(x["valid"][:, None], jnp.tanh(mixed) * keys, hidden) + 0.1 * count
    return (jnp.where(mask, new, hidden), count + 1), (new[:, :2], count)


def lax_scan(weights, consts, carry, xs, reverse):
    body = lambda carry, x: step(lambda name, z: z @ weights[name], consts, carry, x)
    return lax.scan(body, carry, xs, reverse=reverse)


def loss_by(scan, weights, keys, hidden, x, reverse):
    """Return a loss of all outputs and the final carry, and these outputs and carry."""
    xs = {"x": x, "valid": jnp.asarray(VALID.T[: len(x)])}
    consts, carry = (keys, jnp.asarray(MASK)), (hidden, jnp.int32(0))
    (last, count), (ys, counts) = scan(weights, consts, carry, xs, reverse=reverse)
    assert count.dtype == counts.dtype == jnp.int32
    return jnp.sum(jnp.sin(ys) * (1 + counts[:, None, None])) + jnp.sum(last**2), (ys, last)


def assert_trees_close(actual, expected):
    jax.tree.map(partial(np.testing.assert_allclose, rtol=1e-4, atol=1e-5), actual, expected)


ARGUMENTS = WEIGHTS, normal(2, B, H), normal(3, B, H), normal(4, T, B, H)


@pytest.mark.parametrize("reverse", [False, True])
def test_rnn_scan_and_gradients_equal_lax_scan(reverse):
    @unoptimized_jit
    def run(*arguments):
        return [
            jax.value_and_grad(
                partial(loss_by, scan, reverse=reverse), argnums=(0, 1, 2, 3), has_aux=True
            )(*arguments)
            for scan in (partial(rnn_scan, step), lax_scan)
        ]

    assert_trees_close(*run(*ARGUMENTS))


def test_clipped_cotangents_of_a_doubling_recurrence():
    """For h_t = 2 h_{t-1} and the loss h_5, cotangents of h_4 ... h_0 are 2, 4, 8, 10, 10."""

    def doubling(matmul, consts, carry, x):
        del consts, x
        return matmul("w", carry), None

    def loss(weight, start):
        weights = {"w": weight[None, None]}
        step = clip_step(doubling, 10.0)
        return rnn_scan(step, weights, None, start[None, None], jnp.zeros(5))[0][0, 0]

    value, gradients = jax.value_and_grad(loss, argnums=(0, 1))(jnp.float32(2), jnp.float32(1))
    assert (value, *gradients) == (32, 16 * 1 + 8 * 2 + 4 * 4 + 2 * 8 + 1 * 10, 10)


def test_gradients_of_consts_accumulate_in_float32():
    """A sum of 1,000 ones in bfloat16 would stop at 256."""

    def add(matmul, consts, carry, x):
        del matmul, x
        return carry, carry + consts

    def total(const):
        ys = rnn_scan(add, {}, const, jnp.bfloat16(0), jnp.zeros(1_000, jnp.bfloat16))[1]
        return jnp.sum(ys.astype(jnp.float32))

    assert unoptimized_jit(jax.grad(total))(jnp.bfloat16(0)) == 1_000


@pytest.fixture(scope="module", params=[False, True], ids=["forward", "reverse"])
def traced_steps(request):
    """Return a function for values and gradients with traced `steps`, and its direction."""

    @unoptimized_jit
    def run(steps, *arguments):
        scan = partial(rnn_scan, step, steps=steps)
        loss = partial(loss_by, scan, reverse=request.param)
        return jax.value_and_grad(loss, (0, 1, 2, 3), has_aux=True)(*arguments)

    return run, request.param


def test_steps_equal_a_shorter_input(traced_steps):
    """Later outputs and gradients are zero."""
    run, reverse = traced_steps
    loss = partial(loss_by, lax_scan, reverse=reverse)
    expected = unoptimized_jit(jax.value_and_grad(loss, (0, 1, 2, 3), has_aux=True))
    for steps in (3, T):
        pad = lambda x, steps=steps: np.pad(x, [(0, T - steps)] + [(0, 0)] * (x.ndim - 1))
        *others, x = ARGUMENTS
        (value, (ys, last)), (*gradients, d_x) = expected(*others, x[:steps])
        actual = run(np.int32(steps), *ARGUMENTS)
        # The sum over all T outputs has sin(0) = 0 at the remaining steps.
        assert_trees_close(actual, ((value, (pad(ys), last)), (*gradients, pad(d_x))))


def test_zero_steps_return_the_initial_carry(traced_steps):
    run, _ = traced_steps
    weights, keys, hidden, x = ARGUMENTS
    (value, (ys, last)), gradients = jax.device_get(run(np.int32(0), *ARGUMENTS))
    np.testing.assert_array_equal(last, hidden)
    np.testing.assert_allclose(value, np.sum(hidden**2), rtol=1e-6)
    assert not ys.any()
    zeros = jax.tree.map(np.zeros_like, (weights, keys, x))
    assert_trees_close(gradients, (*zeros[:2], 2 * hidden, zeros[2]))


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def lstm_loop(layer, x):
    """Gers et al. 2000, one sequence; gates in the order input, forget, output, candidate."""
    w, u, b = (np.asarray(p[...], np.float64) for p in (layer.input, layer.recurrent, layer.bias))
    hidden = cell = np.zeros(u.shape[0])
    outputs = []
    for row in np.asarray(x, np.float64):
        i, f, o, candidate = np.split(row @ w + hidden @ u + b, 4)
        cell = sigmoid(f) * cell + sigmoid(i) * np.tanh(candidate)
        hidden = sigmoid(o) * np.tanh(cell)
        outputs.append(hidden)
    return np.array(outputs)


def gru_loop(layer, x):
    """Bahdanau et al. 2015, app. A.1.1, one sequence."""
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
def test_layer_equals_loop_in_both_directions_for_padded_sequences(kind, loop):
    layer, x = with_random_params(lambda: kind(D, H, key=jax.random.key(0))), normal(5, B, T, D)

    @unoptimized_jit
    def run(x, valid):
        return unroll(layer, x, valid), unroll(layer, x, valid, reverse=True)

    (forward, last), (backward, first) = jax.device_get(run(x, VALID))
    for b, n in enumerate(LENGTHS):
        if not n:
            continue
        np.testing.assert_allclose(forward[b, :n], loop(layer, x[b, :n]), atol=1e-5)
        np.testing.assert_array_equal(jax.tree.leaves(last)[0][b], forward[b, n - 1])
        np.testing.assert_allclose(backward[b, :n], loop(layer, x[b, :n][::-1])[::-1], atol=1e-5)
        np.testing.assert_array_equal(jax.tree.leaves(first)[0][b], backward[b, 0])
    assert not forward[-1].any() and not backward[-1].any()
