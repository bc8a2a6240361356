"""Encoder-decoders with a fixed output layer, the baselines of Vinyals et al. 2015, table 1."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from models.pointer_network.seq2seq import Seq2Seq
from tasks.pointing.instances import Hull
from tests.commands import fast_compilation

B, N, H, A = 2, 4, 6, 5
KEY = jax.random.key(0)
POINTS = np.random.default_rng(1).random((B, N, 2), np.float32)
HULL, COUNT = Hull((N, N)), jnp.int32(N)
CHOICES = np.array([[[1, 3, 2, N, N], [0, 2, 3, 1, N]]] * B)  # two sequences per example
each_model = pytest.mark.parametrize("attends", [pytest.param(False, marks=pytest.mark.slow), True])


@pytest.fixture(autouse=True, scope="module")
def _fast_compilation():
    with fast_compilation():
        yield


@functools.cache
def network(attends):
    """Graph and parameters; large parameters give distributions that are far from uniform."""
    create = lambda: Seq2Seq(points=N, hidden=H, width=A, attends=attends, key=KEY)
    graphdef, shapes = nnx.split(nnx.eval_shape(create))
    rng = np.random.default_rng(0)
    return graphdef, jax.tree.map(
        lambda x: jnp.asarray(rng.normal(0, 0.8, x.shape), x.dtype), shapes
    )


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def lstm_step(lstm, x, hidden, cell):
    weight = lambda variable: np.asarray(variable[...], np.float64)
    gates = x @ weight(lstm.input) + hidden @ weight(lstm.recurrent) + weight(lstm.bias)
    i, f, o, g = np.split(gates, 4)
    cell = sigmoid(f) * cell + sigmoid(i) * np.tanh(g)
    return sigmoid(o) * np.tanh(cell), cell


def softmax(x):
    weights = np.exp(x - np.max(x))
    return weights / weights.sum()


def reference(model, points, choices):
    """Log-probabilities of all indices at each step, without a mask, in NumPy."""
    weight = lambda variable: np.asarray(variable[...], np.float64)
    hidden, cell, annotations = np.zeros(H), np.zeros(H), []
    for point in points:
        hidden, cell = lstm_step(model.encoder.lstm, point, hidden, cell)
        annotations.append(hidden)
    context, result = np.zeros(H if model.scorer else 0), []
    for previous in [N, *choices[:-1]]:
        x = np.concatenate([weight(model.embeddings)[previous], context])
        hidden, cell = lstm_step(model.decoder, x, hidden, cell)
        if model.scorer:
            query = hidden @ weight(model.scorer.query)
            keys = [np.tanh(e @ weight(model.scorer.key) + query) for e in annotations]
            weights = softmax([key @ weight(model.scorer.vector) for key in keys])
            context = weights @ np.array(annotations)
        features = np.concatenate([hidden, context])
        result.append(features @ weight(model.output) + weight(model.output_bias))
    return np.log([softmax(logits) for logits in result])


@each_model
def test_full_pass_equals_numpy_and_decoding_steps(attends):
    graphdef, params = network(attends)
    mask_fn = lambda chosen, position: jnp.ones_like(chosen)

    @jax.jit
    def both(params):
        model, ones = nnx.merge(graphdef, params), jnp.ones((*CHOICES.shape, N + 1), bool)
        points = jnp.asarray(POINTS)
        full = model(points, COUNT, jnp.asarray(CHOICES), jnp.int32(N + 1), ones)
        memory = model.encode(points, COUNT)
        state, steps = model.init_cache(memory, 2), []
        for position in range(N + 1):
            last = CHOICES[..., position - 1] if position else np.full((B, 2), N)
            position = jnp.int32(position)
            logits, state = model.decode_step(jnp.asarray(last), state, memory, mask_fn, position)
            steps.append(jax.nn.log_softmax(logits))
        return full, jnp.stack(steps, axis=2)

    full, steps = both(params)
    model = nnx.merge(graphdef, params)
    expected = [
        [reference(model, points, choices) for choices in sequences]
        for points, sequences in zip(POINTS, CHOICES, strict=True)
    ]
    np.testing.assert_allclose(full, expected, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(steps, full, rtol=1e-4, atol=1e-5)


@pytest.mark.slow
def test_greedy_hulls_are_valid_and_every_weight_has_a_gradient():
    graphdef, params = network(True)

    @jax.jit
    def decode(params):
        mask_fn = lambda chosen, position: HULL.valid_mask(chosen, position, COUNT)
        model, steps = nnx.merge(graphdef, params), jnp.int32(HULL.length)
        return model.decode(jnp.asarray(POINTS), COUNT, steps, HULL.length, mask_fn, True)[:, 0]

    @jax.jit
    @jax.grad
    def gradient(params):
        mask = jnp.ones((*CHOICES.shape, N + 1), bool)
        args = jnp.asarray(POINTS), COUNT, jnp.asarray(CHOICES), jnp.int32(N + 1), mask
        return jnp.sum(nnx.merge(graphdef, params)(*args)[..., 0])

    for choices in np.asarray(decode(params)):
        hull = choices[choices < N]
        assert len(hull) >= 3 and len(set(hull)) == len(hull)
    for path, leaf in nnx.to_flat_state(gradient(params)):
        assert np.isfinite(leaf[...]).all() and np.any(leaf[...]), path


def test_other_number_of_points_is_rejected():
    graphdef, params = network(False)
    with pytest.raises(ValueError, match="this model supports 4 points, not 5"):
        nnx.merge(graphdef, params).encode(jnp.zeros((1, 5, 2)), jnp.int32(5))
