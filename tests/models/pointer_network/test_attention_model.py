"""Attention Model of Kool et al. 2019: its equations in NumPy, and its number of parameters."""

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from attention.pointer import chosen_before
from models.pointer_network.attention_model import AttentionModel
from tasks.pointing.instances import Tour
from tests import naive

B, N, H, M, C = 2, 4, 6, 3, 10.0  # M heads
POINTS = np.random.default_rng(0).random((B, N, 2), np.float32)
TOURS = np.array([[[0, 2, 1, 3], [0, 3, 2, 1]], [[0, 1, 2, 3], [0, 2, 3, 1]]])


def create(hidden, layers, heads):
    return AttentionModel(
        hidden=hidden, layers=layers, heads=heads, logit_clipping=C, key=jax.random.key(0)
    )


def log_probs(model, tour, annotations):
    """Log-probabilities of the cities of one tour, step by step (Kool et al., eq. 4 to 8)."""
    weight = lambda variable: np.asarray(variable[...], np.float64)
    split = lambda x: np.split(x, M, axis=1)
    mean, previous = annotations.mean(axis=0), weight(model.end_token)
    first, visited, result = previous, [], []
    for t, city in enumerate(tour):
        query = mean @ weight(model.query_graph) + first @ weight(model.query_first)
        query += previous @ weight(model.query_previous)
        valid = [i for i in range(N) if i not in visited] if t else [0]
        keys, values = np.split(annotations[valid] @ weight(model.key_value), 2, axis=1)
        heads = map(naive.attend, split(query[None]), split(keys), split(values))
        glimpse = np.concatenate(list(heads), axis=1)[0] @ weight(model.output)
        u = C * np.tanh(annotations[valid] @ weight(model.pointer_key) @ glimpse / H**0.5)
        result.append(u[valid.index(city)] - np.log(np.exp(u).sum()))
        previous, first = annotations[city], annotations[tour[0]]
        visited.append(city)
    return result


def test_log_probabilities_equal_the_equations():
    graphdef, shapes = nnx.split(nnx.eval_shape(lambda: create(H, 1, M)))
    rng = np.random.default_rng(1)
    params = jax.tree.map(lambda x: jnp.asarray(rng.normal(0, 0.5, x.shape), x.dtype), shapes)
    model, count = nnx.merge(graphdef, params), jnp.int32(N)
    chosen = jnp.pad(chosen_before(jnp.asarray(TOURS), N), ((0, 0), (0, 0), (0, 0), (0, 1)))
    mask = Tour((N, N)).valid_mask(chosen, jnp.arange(N)[:, None], count)
    actual = jax.jit(lambda points: model(points, count, jnp.asarray(TOURS), count, mask))(POINTS)
    annotations, _ = model.encoder.annotate(jnp.asarray(POINTS), count)
    annotations = np.asarray(annotations, np.float64)
    expected = [[log_probs(model, tour, annotations[b]) for tour in TOURS[b]] for b in range(B)]
    actual = np.take_along_axis(np.asarray(actual), TOURS[..., None], axis=-1)[..., 0]
    np.testing.assert_allclose(actual, expected, rtol=1e-4, atol=1e-5)


def test_number_of_parameters_follows_from_the_sizes_of_the_layers():
    """Sec. 3.1 and 3.2 of the paper for 2 coordinates, width 128 and 3 layers.

    The query matrix of the pointer is merged with the output matrix of the glimpse. The encoder's
    attention has biases in addition, and one vector takes the place of two placeholders.
    """
    d, hidden = 128, 512
    feed_forward, normalization = d * hidden + hidden + hidden * d + d, 2 * d
    layer = 4 * d * d + feed_forward + 2 * normalization
    query, glimpse, pointer, placeholders = 3 * d * d, 3 * d * d, d * d, 2 * d
    paper = (2 * d + d) + 3 * layer + query + glimpse + pointer + placeholders
    params = nnx.state(nnx.eval_shape(lambda: create(d, 3, 8)))
    assert sum(x.size for x in jax.tree.leaves(params)) == paper + 3 * 4 * d - d
