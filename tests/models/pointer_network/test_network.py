"""Networks that point: decoding against the full pass and exhaustive search, and invariances."""

import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from attention import log_soft
from attention.pointer import chosen_before
from models.pointer_network.attention_model import AttentionModel
from models.pointer_network.network import PointerNet
from tasks.pointing.instances import Hull, Tour
from tests.commands import fast_compilation

B, N, H = 3, 5, 8
KEY = jax.random.key(0)
POINTS = np.random.default_rng(1).random((B, N, 2), np.float32)
TOUR, HULL, SMALL_HULL = Tour((N, N)), Hull((N, N)), Hull((4, 4))
# Two hulls per instance, of different lengths.
HULLS = np.array([[[1, 4, 2, N, N, N], [0, 2, 4, 1, 3, N]]] * B)
TOURS = np.array([(0, *rest) for rest in itertools.permutations(range(1, N))])
NETWORKS = {
    "lstm": {
        "encoder": {"kind": "lstm", "layers": 1, "heads": 1},
        "decoder_inputs": "points",
        "score": "additive",
        "glimpses": 0,
        "logit_clipping": 0.0,
    },
    "set": {
        "encoder": {"kind": "set", "layers": 2, "heads": 1},
        "decoder_inputs": "annotations",
        "score": "general",
        "glimpses": 2,
        "logit_clipping": 10.0,
    },
    "transformer": {
        "encoder": {"kind": "transformer", "layers": 1, "heads": 2},
        "decoder_inputs": "points",
        "score": "content",
        "glimpses": 0,
        "logit_clipping": 1.0,
    },
    "attention_model": {"layers": 1, "heads": 2, "logit_clipping": 10.0},
}
each_network = pytest.mark.parametrize("name", NETWORKS)


@pytest.fixture(autouse=True, scope="module")
def _fast_compilation():
    with fast_compilation():
        yield


@functools.cache
def network(name):
    """Graph and parameters; large parameters give distributions that are far from uniform."""
    model = AttentionModel if name == "attention_model" else functools.partial(PointerNet, width=5)
    create = lambda: model(hidden=H, key=KEY, **NETWORKS[name])
    graphdef, shapes = nnx.split(nnx.eval_shape(create))
    rng = np.random.default_rng(0)
    return graphdef, jax.tree.map(lambda x: rng.normal(0, 0.8, x.shape).astype(x.dtype), shapes)


def mask_fn_of(problem, count):
    return lambda chosen, position: problem.valid_mask(chosen, position, count)


def full_pass(graphdef, params, points, count, choices, problem):
    """Log-probabilities of all indices at each step of `choices`, and of each sequence."""
    size = points.shape[1]
    chosen = jnp.pad(chosen_before(choices, size), ((0, 0), (0, 0), (0, 0), (0, 1)))
    mask = problem.valid_mask(chosen, jnp.arange(choices.shape[-1])[:, None], count)
    model = nnx.merge(graphdef, params)
    log_probs = model(points, count, choices, problem.max_steps(count), mask)
    selected = jnp.take_along_axis(log_probs, choices[..., None], axis=-1)[..., 0]
    return log_probs, jnp.sum(jnp.where(problem.target_mask(choices, size), selected, 0.0), -1)


full_pass_jit = jax.jit(full_pass, static_argnames=("graphdef", "problem"))


@functools.partial(jax.jit, static_argnames="graphdef")
def full_pass_and_gradients(graphdef, params, points, count, choices):
    """Full pass of hulls, and the gradients of the sum of their log-probabilities."""

    def loss(params):
        log_probs, log_prob = full_pass(graphdef, params, points, count, choices, HULL)
        return jnp.sum(log_prob), (log_probs, log_prob)

    gradients, outputs = jax.grad(loss, has_aux=True)(params)
    return *outputs, gradients


def hull_log_prob(name, choices, points=POINTS, count=N):
    return full_pass_and_gradients(*network(name), points, np.int32(count), choices)[1]


def decode_args(problem):
    count = jnp.int32(N)
    return (
        jnp.asarray(POINTS),
        count,
        jnp.int32(problem.length),
        problem.length,
        mask_fn_of(problem, count),
    )


@functools.partial(jax.jit, static_argnames=("graphdef", "problem", "width"))
def search(graphdef, params, problem, width):
    return nnx.merge(graphdef, params).search(*decode_args(problem), width)


@functools.partial(jax.jit, static_argnames=("graphdef", "problem", "samples"))
def decode(graphdef, params, problem, key=None, samples=1):
    model, end = nnx.merge(graphdef, params), problem.has_end_token
    return model.decode(*decode_args(problem), end, key, samples)


@each_network
def test_full_pass_equals_decoding_steps(name):
    """The full pass must not mix the sequences of an instance, which are decoded separately."""
    graphdef, params = network(name)
    expected, *_ = full_pass_and_gradients(graphdef, params, POINTS, np.int32(N), HULLS)
    sequences = HULLS.reshape(2 * B, -1)

    @jax.jit
    def decode_steps(params):
        model = nnx.merge(graphdef, params)
        memory = model.encode(jnp.repeat(POINTS, 2, axis=0), jnp.int32(N))

        def step(carry, inputs):
            state, previous = carry
            position, choice = inputs
            mask_fn = mask_fn_of(HULL, jnp.int32(N))
            logits, state = model.decode_step(previous, state, memory, mask_fn, position)
            return (state, choice[:, None]), log_soft(logits)[:, 0]

        start = model.init_cache(memory, 1), jnp.full((2 * B, 1), N)
        steps = jnp.arange(HULL.length), sequences.T
        return jnp.swapaxes(jax.lax.scan(step, start, steps)[1], 0, 1)

    actual = decode_steps(params).reshape(expected.shape)
    np.testing.assert_allclose(actual, expected, rtol=2e-4, atol=2e-5)


@each_network
def test_padding_does_not_change_probabilities(name):
    choices = np.array([[[0, 2, 1, 3, 4], [2, 1, 0, 4, 4]]] * B)  # 4 points; 4 is the end token
    unpadded = POINTS[:, :4], np.int32(4), choices, SMALL_HULL
    _, expected = full_pass_jit(*network(name), *unpadded)
    padded = np.pad(np.where(choices == 4, N, choices), ((0, 0), (0, 0), (0, 1)), "edge")
    for points in (POINTS, np.concatenate([POINTS[:, :4], POINTS[:, 4:] + 1], axis=1)):
        actual = hull_log_prob(name, padded, points, 4)
        np.testing.assert_allclose(actual, expected, rtol=1e-4)


@pytest.mark.parametrize(
    ("name", "is_invariant"),
    [("set", True), ("transformer", True), ("attention_model", True), ("lstm", False)],
)
def test_probabilities_are_invariant_to_input_order(name, is_invariant):
    order = np.array([3, 0, 4, 1, 2])
    new_index = np.append(np.argsort(order), N)
    expected = hull_log_prob(name, HULLS)
    actual = hull_log_prob(name, new_index[HULLS], POINTS[:, order])
    if is_invariant:
        np.testing.assert_allclose(actual, expected, rtol=1e-4)
    else:
        assert np.abs(actual - expected).max() > 1e-2


@pytest.fixture(scope="module")
def tour_log_probs():
    """Log-probabilities of all tours of each instance, `[B, 24]`."""
    tours = np.broadcast_to(TOURS, (B, *TOURS.shape))
    return np.asarray(full_pass_jit(*network("lstm"), POINTS, np.int32(N), tours, TOUR)[1])


def test_exhaustive_beam_search_sorts_all_tours(tour_log_probs):
    actual, log_probs = search(*network("lstm"), TOUR, len(TOURS))
    order = np.argsort(-tour_log_probs, axis=1)
    expected = np.take_along_axis(tour_log_probs, order, axis=1)
    np.testing.assert_allclose(log_probs, expected, rtol=1e-3, atol=1e-3)
    np.testing.assert_array_equal(actual[:, :3], TOURS[order[:, :3]])
    assert all(len(np.unique(tours, axis=0)) == len(TOURS) for tours in actual)
    assert (np.sort(actual, axis=-1) == np.arange(N)).all()


def test_frequencies_of_samples_are_probabilities(tour_log_probs):
    samples = 4_000
    tours = np.asarray(decode(*network("lstm"), TOUR, jax.random.key(7), samples))
    assert (tours[..., 0] == 0).all() and (np.sort(tours, -1) == np.arange(N)).all()
    probabilities = np.exp(tour_log_probs)
    np.testing.assert_allclose(probabilities.sum(1), 1.0, rtol=1e-4)
    frequencies = np.mean(np.all(tours[:, :, None] == TOURS, axis=-1), axis=1)
    error = (probabilities * (1 - probabilities) / samples) ** 0.5
    assert (np.abs(frequencies - probabilities) < 5 * error + 1e-3).all()


def test_beam_search_of_width_1_is_greedy():
    greedy = decode(*network("lstm"), HULL)
    actual, log_probs = search(*network("lstm"), HULL, 1)
    np.testing.assert_array_equal(actual, greedy)
    expected = hull_log_prob("lstm", np.repeat(greedy, 2, axis=1))[:, :1]
    np.testing.assert_allclose(log_probs, expected, rtol=1e-4)


@each_network
def test_every_weight_has_a_gradient(name):
    *_, gradients = full_pass_and_gradients(*network(name), POINTS, np.int32(N), HULLS)
    for path, gradient in nnx.to_flat_state(gradients):
        gradient = np.asarray(gradient[...])
        assert np.isfinite(gradient).all() and gradient.any(), path


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            {"encoder": {"kind": "tree", "layers": 1, "heads": 1}},
            "one of lstm, set, transformer, not 'tree'",
        ),
        (
            {"encoder": {"kind": "lstm", "layers": 2, "heads": 1}},
            "encoder 'lstm' must have layers=1, not 2",
        ),
        (
            {"encoder": {"kind": "set", "layers": 2, "heads": 4}},
            "encoder 'set' must have heads=1, not 4",
        ),
        (
            {"encoder": {"kind": "transformer", "layers": 1, "heads": 3}},
            "hidden=8 must be a multiple of heads=3",
        ),
        (
            {"decoder_inputs": "cities"},
            "decoder_inputs must be points or annotations, not 'cities'",
        ),
        ({"score": "dott"}, "score must be one of additive, general, dot, scaled_dot, content"),
    ],
)
def test_invalid_options_are_rejected(options, message, disable_type_checks):
    with pytest.raises(ValueError, match=message):
        nnx.eval_shape(
            lambda: PointerNet(hidden=H, width=5, key=KEY, **(NETWORKS["lstm"] | options))
        )
