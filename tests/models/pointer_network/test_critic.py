"""Critic of Bello et al. 2016 against NumPy."""

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from models.pointer_network.critic import Critic

H, A, STEPS = 6, 5, 3
POINTS = np.random.default_rng(0).random((2, 4, 2)).astype(np.float32)


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def reference(critic, points):
    """Predictions point by point, in NumPy."""
    weight = lambda variable: np.asarray(variable[...], np.float64)
    lstm, scorer, predictions = critic.encoder.lstm, critic.scorer, []
    for instance in points:
        hidden, cell, annotations = np.zeros(H), np.zeros(H), []
        for point in instance:
            gates = point @ weight(lstm.input) + hidden @ weight(lstm.recurrent) + weight(lstm.bias)
            i, f, o, g = np.split(gates, 4)
            cell = sigmoid(f) * cell + sigmoid(i) * np.tanh(g)
            hidden = sigmoid(o) * np.tanh(cell)
            annotations.append(hidden)
        for _ in range(STEPS):
            query = hidden @ weight(scorer.query)
            keys = [np.tanh(r @ weight(scorer.key) + query) for r in annotations]
            scores = np.exp([key @ weight(scorer.vector) for key in keys])
            hidden = (scores / scores.sum()) @ np.array(annotations)
        x = np.maximum(0, hidden @ weight(critic.inner) + weight(critic.inner_bias))
        predictions.append(x @ weight(critic.output)[:, 0] + weight(critic.output_bias)[0])
    return np.array(predictions)


def test_critic_equals_numpy_and_ignores_padding():
    create = lambda: Critic(
        hidden=H,
        encoder={"kind": "lstm", "layers": 1, "heads": 1},
        score="additive",
        width=A,
        steps=STEPS,
        key=jax.random.key(0),
    )
    graphdef, shapes = nnx.split(nnx.eval_shape(create))
    rng = np.random.default_rng(1)
    params = jax.tree.map(lambda x: jnp.asarray(rng.normal(0, 0.7, x.shape), x.dtype), shapes)
    critic = nnx.merge(graphdef, params)
    padded = jnp.pad(POINTS, ((0, 0), (0, 2), (0, 0)), constant_values=9.0)
    actual = jax.jit(lambda x: critic(x, jnp.int32(4)))(padded)
    np.testing.assert_allclose(actual, reference(critic, POINTS), rtol=1e-4)
