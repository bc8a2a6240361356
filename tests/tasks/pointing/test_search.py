"""Searches with a policy over tours: sampling at a temperature, and Active Search."""

import itertools
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

import tasks
from configs import ptrnet_hull, ptrnet_tsp, ptrnet_tsp20_rl
from tasks.pointing import policy, search, tsp
from tasks.pointing.instances import Tour
from tests.commands import fast_compilation
from tests.tasks.pointing.small import small_config
from training.errors import UserError
from training.state import TrainState

N = 5
CITIES = np.random.default_rng(3).random((2, N, 2)).astype(np.float32)
COUNT = jnp.int32(N)
TOURS = np.array([(0, *rest) for rest in itertools.permutations(range(1, N))])
SAMPLING = {"kind": "sampling", "samples": 300, "batch": 100, "temperature": 2.0}
ACTIVE = {
    "kind": "active",
    "steps": 30,
    "batch": 16,
    "learning_rate": 0.02,
    "baseline_decay": 0.9,
    "pretrained": False,
}


@pytest.fixture(autouse=True, scope="module")
def _fast_compilation():
    with fast_compilation():
        yield


@pytest.fixture(scope="module")
def params():
    """Large random parameters, for a policy that is far from uniform."""
    shapes = jax.eval_shape(make_task(ptrnet_tsp).init_params, jax.random.key(0))
    rng = np.random.default_rng(0)
    return jax.tree.map(lambda x: jnp.asarray(rng.normal(0, 0.5, x.shape), x.dtype), shapes)


def make_task(module, **options):
    config = small_config(module, sizes=(N, N))
    config.model.update(hidden=8, width=8)
    config.search = options or config.search
    return tasks.build(config, "")


def closed_lengths(cities, tours):
    path = cities[tours]
    return np.linalg.norm(path - np.roll(path, -1, axis=-2), axis=-1).sum(-1)


@partial(jax.jit, static_argnums=0)
def step_logits(graphdef, params, cities):
    """Logits of all indices at each step of all tours, `[N, 24, S]`, by decoding steps."""
    model = nnx.merge(graphdef, params)
    memory = model.encode(cities[None], COUNT)
    mask_fn = lambda chosen, position: Tour((N, N)).valid_mask(chosen, position, COUNT)
    state, logits = model.init_cache(memory, len(TOURS)), []
    for position in range(N):
        last = jnp.asarray(TOURS[None, :, position - 1] if position else np.full((1, 24), N))
        output, state = model.decode_step(last, state, memory, mask_fn, jnp.int32(position))
        logits.append(output[0])
    return jnp.stack(logits)


def tour_probabilities(graphdef, params, temperature):
    """Probabilities of all tours of the first instance, by a softmax in NumPy."""
    logits = np.asarray(step_logits(graphdef, params, jnp.asarray(CITIES[0])), np.float64)
    weights = np.exp((logits - logits.max(-1, keepdims=True)) / temperature)
    softmax = weights / weights.sum(-1, keepdims=True)
    return np.prod(np.take_along_axis(softmax, TOURS.T[..., None], axis=-1)[..., 0], axis=0)


@pytest.fixture(scope="module")
def run_active_search():
    """Active Search on the first instance, jitted once for any number of steps."""
    graphdef = make_task(ptrnet_tsp).graphdef
    options = {"batch": 16, "learning_rate": 0.02, "baseline_decay": 0.7}

    @jax.jit
    def run(params, steps):
        cities, key = jnp.asarray(CITIES[0]), jax.random.key(2)
        return search.active_search(graphdef, params, cities, key, steps=steps, **options)

    return run, options


@pytest.mark.parametrize("temperature", [0.5, 3.0])
def test_frequencies_at_a_temperature_are_softmax_probabilities(temperature, params):
    task, samples = make_task(ptrnet_tsp), 4_000
    sample = jax.jit(
        lambda params, key, temperature: policy.decode_tours(
            task.model(params), jnp.asarray(CITIES[:1]), COUNT, key, samples, temperature
        )
    )
    tours = np.asarray(sample(params, jax.random.key(1), temperature))[0]
    expected = tour_probabilities(task.graphdef, params, temperature)
    np.testing.assert_allclose(expected.sum(), 1.0, rtol=1e-6)
    frequencies = np.mean(np.all(tours[:, None] == TOURS, axis=-1), axis=0)
    error = (expected * (1 - expected) / samples) ** 0.5
    assert (np.abs(frequencies - expected) < 5 * error + 1e-3).all()


def test_best_of_many_samples_is_the_shortest_tour(params):
    """300 samples at temperature 2 contain all 24 tours of these instances."""
    task = make_task(ptrnet_tsp, **SAMPLING)
    tours = task.predict(TrainState(None, params, None), CITIES)
    for cities, tour in zip(CITIES, tours, strict=True):
        assert tour[0] == 0 and sorted(tour) == [*range(N)]
        lengths = closed_lengths(cities, np.stack([tour, *TOURS]))
        np.testing.assert_allclose(lengths[0], lengths.min(), rtol=1e-6)


@pytest.mark.slow
def test_last_batch_of_samples_is_limited_to_the_requested_number(params):
    """With 3 samples in batches of 2, the fourth tour does not count, also if it is shorter."""
    task = make_task(ptrnet_tsp)

    @jax.jit
    @jax.vmap
    def search_and_samples(key):
        model, cities = task.model(params), jnp.asarray(CITIES[0])
        keys = [jax.random.fold_in(key, batch) for batch in (0, 1)]
        batches = [policy.decode_tours(model, cities[None], COUNT, k, 2, 9.0)[0] for k in keys]
        options = {"samples": 3, "batch": 2, "temperature": 9.0}
        return search.sample_tour(model, cities, key, **options)[1], jnp.concatenate(batches)

    shortest, tours = search_and_samples(jax.random.split(jax.random.key(0), 10))
    lengths = closed_lengths(CITIES[0], tours)
    np.testing.assert_allclose(shortest, lengths[:, :3].min(1), rtol=1e-6)
    assert (lengths[:, 3] < lengths[:, :3].min(1)).any()


@pytest.mark.slow
def test_searches_do_not_depend_on_the_evaluation_batch(params):
    """The key of an instance depends on its index in the split only."""
    tours = []
    for batch in (100, 200):  # one and two instances at a time
        task = make_task(ptrnet_tsp, **SAMPLING | {"samples": 2, "batch": 100})
        task.config.evaluation.batch = batch
        tours.append(task.predict(TrainState(None, params, None), CITIES))
    np.testing.assert_array_equal(*tours)


def test_ensemble_takes_the_shortest_of_the_tours_of_its_policies(params):
    task, other = make_task(ptrnet_tsp), make_task(ptrnet_tsp)
    states = [TrainState(None, x, None) for x in (params, jax.tree.map(jnp.negative, params))]
    cities = np.random.default_rng(0).random((10, N, 2)).astype(np.float32)
    joined = task.ensemble(states[0], [(other, states[1])])
    pairs = (task, states[0]), (task, states[1]), joined
    first, second, shortest = (tsp.tour_lengths(cities, x.predict(s, cities)) for x, s in pairs)
    assert (first < second - 0.1).any() and (second < first - 0.1).any()
    np.testing.assert_allclose(shortest, np.minimum(first, second), rtol=1e-6)


def given_start_log_probs(model, tours):
    """Log-probabilities of tours `[W, N]` of the first instance, given their first city."""
    args = Tour((N, N)), jnp.asarray(CITIES[:1]), COUNT, tours[None]
    log_probs, mask = policy.log_probs(model, *args, constrained=True)
    mask = mask & (jnp.arange(N) > 0)
    return policy.sequence_log_prob(log_probs, tours[None], mask)[0]


def test_tours_start_at_the_given_cities(params):
    """Given their start, the frequencies of tours are the probabilities of the policy."""
    task, samples = make_task(ptrnet_tsp), 4_000
    starts = jnp.repeat(jnp.array([2, 3]), samples)
    sample = jax.jit(
        lambda params, key: policy.decode_tours(
            task.model(params), jnp.asarray(CITIES[:1]), COUNT, key, 2 * samples, starts=starts
        )
    )
    sampled = np.asarray(sample(params, jax.random.key(1)))[0].reshape(2, samples, N)
    log_probs = jax.jit(lambda params, tours: given_start_log_probs(task.model(params), tours))
    for start, tours in zip((2, 3), sampled, strict=True):
        possible = (TOURS + start) % N  # all tours from this city
        expected = np.exp(log_probs(params, possible))
        np.testing.assert_allclose(expected.sum(), 1.0, rtol=1e-5)
        frequencies = np.mean(np.all(tours[:, None] == possible, axis=-1), axis=0)
        error = (expected * (1 - expected) / samples) ** 0.5
        assert (np.abs(frequencies - expected) < 5 * error + 1e-3).all()


@pytest.mark.slow
@pytest.mark.parametrize("start", [0, 2])
def test_policy_gradient_is_the_gradient_of_the_expected_length(start, params):
    """Weighted by their probabilities, all tours give the gradient of the expected length.

    The gradient of the loss is `Σ p(π) (L(π) - b) ∇ log p(π)`, for any baseline b.
    """
    task, tours = make_task(ptrnet_tsp), (TOURS + start) % N  # all tours from this city
    args = Tour((N, N)), jnp.asarray(CITIES[:1]), COUNT, jnp.asarray(tours)[None]
    lengths = closed_lengths(CITIES[0], tours)

    def log_p(params):
        return given_start_log_probs(task.model(params), jnp.asarray(tours))

    def expected_length(params):
        return jnp.sum(jnp.exp(log_p(params)) * lengths)

    def loss(params, weights):
        return policy.reinforce_loss(task.model(params), *args, weights)

    @jax.jit
    def gradients(params):
        probabilities = jnp.exp(log_p(params))
        weights = len(TOURS) * probabilities * (lengths - 1.7)
        return jax.grad(expected_length)(params), jax.grad(loss)(params, weights[None])

    for expected, actual in zip(*map(jax.tree.leaves, gradients(params)), strict=True):
        np.testing.assert_allclose(actual, expected, rtol=1e-3, atol=1e-5)


def naive_active_search(task, params, cities, key, steps, batch, learning_rate, baseline_decay):
    """Algorithm 2 as a Python loop: Adam in NumPy, gradients tour by tour."""

    def log_p(params, cities, tour):
        args = Tour((N, N)), cities[None], COUNT, tour[None, None]
        log_probs, mask = policy.log_probs(task.model(params), *args, constrained=True)
        return policy.sequence_log_prob(log_probs, tour[None, None], mask)[0, 0]

    gradient = jax.jit(jax.grad(log_p))
    sample = jax.jit(
        lambda params, cities, key: policy.decode_tours(
            task.model(params), cities[None], COUNT, key, batch
        )[0]
    )
    leaves, tree = jax.tree.flatten(params)
    first, second = ([np.zeros(x.shape) for x in leaves] for _ in range(2))
    best, baseline = np.inf, None
    for index in range(steps):
        order_key, sample_key = jax.random.split(jax.random.fold_in(key, index))
        permuted = cities[np.asarray(jax.random.permutation(order_key, N))]
        params = jax.tree.unflatten(tree, leaves)
        tours = np.asarray(sample(params, permuted, sample_key))
        lengths = closed_lengths(permuted, tours)
        best = min(best, lengths.min())
        baseline = lengths.mean() if baseline is None else baseline
        total = [np.zeros(x.shape) for x in leaves]
        for tour, length in zip(tours, lengths, strict=True):
            terms = jax.tree.leaves(gradient(params, permuted, tour))
            advantage = length - baseline
            total = [t + advantage * np.asarray(g) for t, g in zip(total, terms, strict=True)]
        total = [t / batch for t in total]
        norm = np.sqrt(sum(np.sum(t**2) for t in total))
        total = [t * min(1.0, search.GRADIENT_CLIP / norm) for t in total]
        first = [0.9 * m + 0.1 * t for m, t in zip(first, total, strict=True)]
        second = [0.999 * v + 0.001 * t**2 for v, t in zip(second, total, strict=True)]
        leaves = [
            np.float32(
                x
                - learning_rate
                * (m / (1 - 0.9 ** (index + 1)))
                / (np.sqrt(v / (1 - 0.999 ** (index + 1))) + 1e-8)
            )
            for x, m, v in zip(leaves, first, second, strict=True)
        ]
        baseline = baseline_decay * baseline + (1 - baseline_decay) * lengths.mean()
    return leaves, best


@pytest.mark.slow
def test_active_search_equals_a_loop(params, run_active_search):
    run, options = run_active_search
    tour, length, trained = run(params, 3)
    args = jnp.asarray(CITIES[0]), jax.random.key(2), 3
    expected, shortest = naive_active_search(make_task(ptrnet_tsp), params, *args, **options)
    np.testing.assert_allclose(length, shortest, rtol=1e-6)
    np.testing.assert_allclose(closed_lengths(CITIES[0], tour), shortest, rtol=1e-6)
    for actual, leaf in zip(jax.tree.leaves(trained), expected, strict=True):
        np.testing.assert_allclose(actual, leaf, atol=2e-4)


def test_active_search_improves_the_policy(params, run_active_search):
    """The expected length of the trained policy is nearer to the optimum."""
    run, _ = run_active_search
    *_, trained = run(params, 150)
    graphdef, lengths = make_task(ptrnet_tsp).graphdef, closed_lengths(CITIES[0], TOURS)
    before, after = (tour_probabilities(graphdef, p, 1.0) @ lengths for p in (params, trained))
    assert after - lengths.min() < 0.3 * (before - lengths.min())


@pytest.mark.slow
def test_active_search_from_random_parameters_finds_the_optimum_of_each_instance(params):
    task = make_task(ptrnet_tsp20_rl, **ACTIVE)
    tours = task.predict(TrainState(None, params, None), CITIES)
    for cities, tour in zip(CITIES, tours, strict=True):
        assert tour[0] == 0 and sorted(tour) == [*range(N)]
        lengths = closed_lengths(cities, np.stack([tour, *TOURS]))
        np.testing.assert_allclose(lengths[0], lengths.min(), rtol=1e-6)


@pytest.mark.parametrize(
    ("module", "options", "message"),
    [
        (ptrnet_tsp, {"kind": "samples"}, "search.kind must be .*'active', not 'samples'. Did you"),
        (ptrnet_tsp, {}, "search.kind must be 'beam' or 'sampling' or 'active', not ''"),
        (ptrnet_hull, SAMPLING, "search.kind must be 'beam', not 'sampling'"),
        (ptrnet_tsp, {"kind": "beam"}, "search of kind 'beam' must have the keys width"),
        (ptrnet_tsp, ACTIVE | {"width": 2}, "'active' must have the keys baseline_decay and batch"),
        (ptrnet_tsp, SAMPLING | {"samples": 0}, "search.samples must be at least 1, not 0"),
        (ptrnet_tsp, SAMPLING | {"temperature": "hot"}, "temperature must be a number, not 'hot'"),
        (
            ptrnet_tsp,
            SAMPLING | {"temperature": 0},
            "must be at least 1e-06: for greedy",
        ),
        (ptrnet_tsp, SAMPLING | {"temperature": 1e-60}, "temperature must be at least 1e-06"),
        (ptrnet_tsp, ACTIVE | {"baseline_decay": 1.1}, "must be between 0 and 1, not 1.1"),
    ],
)
def test_invalid_search_is_rejected(module, options, message):
    config = module.get_config("smoke")
    config.search = options
    with pytest.raises(UserError, match=message):
        tasks.build(config, "")
