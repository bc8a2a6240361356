"""Pointer networks: step by step as all at once, decoding against trying everything, symmetry."""

import itertools
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from attention import log_soft
from attention.pointer import chosen_before
from models.pointer_network.network import PointerNet
from tasks.pointing.instances import Hull, Tour, Triangulation
from tests.commands import fast_compilation

B, N, H = 3, 6, 8
KEY = jax.random.key(0)
POINTS = jax.random.uniform(jax.random.key(1), (B, N, 2))
COUNT = jnp.int32(N)
KINDS = {
    "lstm": {"kind": "lstm", "layers": 1, "heads": 1},
    "set": {"kind": "set", "layers": 2, "heads": 1},
    "transformer": {"kind": "transformer", "layers": 1, "heads": 2},
}


@pytest.fixture(autouse=True, scope="module")
def _quick():
    with fast_compilation():
        yield


def network(kind="lstm", score="additive", glimpses=0, bound=0.0, inputs="points"):
    model = PointerNet(
        hidden=H,
        encoder=KINDS[kind],
        inputs=inputs,
        score=score,
        width=5,
        glimpses=glimpses,
        bound=bound,
        key=KEY,
    )
    # Weights far from their start, where the choices would be nearly alike.
    graphdef, params = nnx.split(model)
    noise = lambda x: x + 0.7 * jax.random.normal(jax.random.fold_in(KEY, x.size), x.shape)
    return nnx.merge(graphdef, jax.tree.map(noise, params))


def allowed_by(problem, count=COUNT):
    return lambda chosen, position: problem.allowed(chosen, position, count)


@partial(jax.jit, static_argnames=("graphdef", "problem"))
def scored(graphdef, params, points, count, choices, problem):
    """Log-probabilities of whole answers, teacher-forced."""
    size = points.shape[1]
    chosen = jnp.pad(chosen_before(choices, size), ((0, 0), (0, 0), (0, 1)))
    mask = problem.allowed(chosen, jnp.arange(choices.shape[1])[:, None], count)
    steps = problem.steps(count)
    model = nnx.merge(graphdef, params)
    return model(points, count, choices[:, None], steps, mask[:, None])[:, 0]


@partial(jax.jit, static_argnames=("graphdef", "problem", "width"))
def search(graphdef, params, points, problem, width):
    model, steps = nnx.merge(graphdef, params), jnp.int32(problem.length)
    return model.search(points, COUNT, steps, problem.length, allowed_by(problem), width)


@partial(jax.jit, static_argnames=("graphdef", "problem"))
def decode(graphdef, params, points, problem, key):
    model, steps = nnx.merge(graphdef, params), jnp.int32(problem.length)
    allowed = allowed_by(problem)
    return model.decode(points, COUNT, steps, problem.length, allowed, problem.ends, key)[:, 0]


def log_prob(model, choices, problem, points=POINTS, count=COUNT):
    """Of whole answers, from a teacher-forced pass."""
    logs = scored(*nnx.split(model), points, count, choices, problem)
    said = jnp.take_along_axis(logs, choices[..., None], axis=-1)[..., 0]
    return jnp.sum(jnp.where(problem.asked(choices, points.shape[1]), said, 0.0), axis=1)


@pytest.mark.parametrize(
    ("kind", "score", "glimpses", "bound", "inputs"),
    [
        ("lstm", "additive", 0, 0.0, "points"),
        ("set", "general", 1, 10.0, "annotations"),
        ("transformer", "content", 2, 1.0, "points"),
        ("transformer", "scaled_dot", 0, 0.0, "annotations"),
    ],
)
def test_all_at_once_is_step_by_step(kind, score, glimpses, bound, inputs):
    model, problem = network(kind, score, glimpses, bound, inputs), Tour((3, N))
    choices = jnp.array([[0, 2, 4, 1, 3, 5], [0, 1, 2, 3, 4, 5], [0, 5, 1, 4, 2, 3]])
    whole = scored(*nnx.split(model), POINTS, COUNT, choices, problem)
    memory = jax.jit(model.encode)(POINTS, COUNT)
    state, last = model.init_cache(memory, 1), jnp.full((B, 1), N)
    step = jax.jit(lambda *args: model.decode_step(*args[:2], memory, allowed_by(problem), args[2]))
    for t in range(N):
        logits, state = step(last, state, jnp.int32(t))
        np.testing.assert_allclose(log_soft(logits)[:, 0], whole[:, t], rtol=2e-4, atol=2e-5)
        last = choices[:, t : t + 1]


@pytest.mark.parametrize("kind", KINDS)
def test_absent_points_do_not_matter(kind):
    """Four points of six say what four of four say, whatever stands in the other places."""
    model, problem = network(kind), Tour((3, N))
    choices = jnp.array([[0, 2, 1, 3]] * B)
    padded = jnp.pad(choices, ((0, 0), (0, 2)), constant_values=N)
    found = log_prob(model, padded, problem, POINTS, jnp.int32(4))
    alone = log_prob(model, choices, Tour((3, 4)), POINTS[:, :4], jnp.int32(4))
    moved = log_prob(model, padded, problem, POINTS.at[:, 4:].add(1.0), jnp.int32(4))
    np.testing.assert_allclose(found, alone, rtol=1e-4)
    np.testing.assert_allclose(found, moved, rtol=1e-5)


@pytest.mark.parametrize("kind", ["set", "transformer"])
def test_a_set_has_no_order(kind):
    """The same points in another order, pointed at in the same turn, are as likely."""
    model, hull = network(kind), Hull((3, N))
    choices = jnp.array([[1, 4, 2, 5, N, N, N]] * B)
    order = np.array([3, 5, 0, 1, 4, 2])  # what stands where now
    places = np.append(np.argsort(order), N)
    expected = log_prob(model, choices, hull)
    found = log_prob(model, jnp.asarray(places)[choices], hull, POINTS[:, order])
    np.testing.assert_allclose(found, expected, rtol=1e-4)
    as_read = network("lstm")  # and to an LSTM order does matter, or this would show nothing
    before, after = (
        log_prob(as_read, choices, hull),
        log_prob(as_read, jnp.asarray(places)[choices], hull, POINTS[:, order]),
    )
    assert np.abs(before - after).max() > 1e-2


def test_a_wide_beam_tries_every_tour():
    """All 120 tours of six cities from the first, in the order of their probabilities."""
    model, problem = network(), Tour((N, N))
    tours = jnp.array([(0, *rest) for rest in itertools.permutations(range(1, N))])
    found, scores = search(*nnx.split(model), POINTS, problem, 120)
    for b in range(B):
        repeated = jnp.broadcast_to(POINTS[b], (120, N, 2))
        logs = np.asarray(log_prob(model, tours, problem, repeated))
        order = np.argsort(-logs)
        np.testing.assert_allclose(scores[b], logs[order], rtol=1e-3, atol=1e-3)
        np.testing.assert_array_equal(found[b, :3], tours[order[:3]])
        assert len(np.unique(found[b], axis=0)) == 120


@pytest.mark.parametrize("kind", [Tour, Hull, Triangulation])
def test_a_beam_of_one_is_greedy(kind):
    model, problem = network(glimpses=1), kind((N, N))
    greedy = decode(*nnx.split(model), POINTS, problem, None)
    found, scores = search(*nnx.split(model), POINTS, problem, 1)
    np.testing.assert_array_equal(found[:, 0], greedy)
    np.testing.assert_allclose(scores[:, 0], log_prob(model, greedy, problem), rtol=1e-4)


def test_no_city_is_visited_twice_however_many_are_drawn():
    model, problem = network(), Tour((N, N))
    many = jnp.broadcast_to(POINTS[:1], (500, N, 2))
    drawn = np.asarray(decode(*nnx.split(model), many, problem, jax.random.key(5)))
    assert (drawn[:, 0] == 0).all() and (np.sort(drawn, 1) == np.arange(N)).all()
    found, _ = search(*nnx.split(model), POINTS, problem, 3)
    assert (np.sort(found, -1) == np.arange(N)).all()


def test_tours_are_drawn_as_often_as_they_are_likely():
    """Many through the same cities, which are read once."""
    model, problem = network(), Tour((4, 4))
    points, four, many = POINTS[:2, :4], jnp.int32(4), 4_000

    @jax.jit
    def draw(key):
        return model.decode(points, four, four, 4, allowed_by(problem, four), False, key, many)

    drawn = np.asarray(draw(jax.random.key(7)))
    tours = jnp.array([(0, *rest) for rest in itertools.permutations(range(1, 4))])
    for b in range(2):
        logs = log_prob(model, tours, problem, jnp.broadcast_to(points[b], (6, 4, 2)), four)
        likely = np.exp(logs)
        np.testing.assert_allclose(likely.sum(), 1.0, rtol=1e-4)
        for tour, probability in zip(np.asarray(tours), likely, strict=True):
            share = np.mean(np.all(drawn[b] == tour, axis=-1))
            error = (probability * (1 - probability) / many) ** 0.5
            assert abs(share - probability) < 5 * error + 1e-3


def test_answers_about_the_same_points_do_not_meet():
    """Each of several is as likely as it is alone."""
    model, problem = network("transformer", inputs="annotations"), Tour((N, N))
    answers = jnp.array([[0, 2, 4, 1, 3, 5], [0, 1, 2, 3, 4, 5], [0, 5, 1, 4, 2, 3]])
    together = jnp.stack([answers, answers[::-1]])
    chosen = jnp.pad(chosen_before(together, N), ((0, 0), (0, 0), (0, 0), (0, 1)))
    mask = problem.allowed(chosen, jnp.arange(N)[:, None], COUNT)
    found = jax.jit(type(model).__call__)(model, POINTS[:2], COUNT, together, COUNT, mask)
    for b, w in itertools.product(range(2), range(3)):
        alone = scored(*nnx.split(model), POINTS[b][None], COUNT, together[b, w][None], problem)
        np.testing.assert_allclose(found[b, w], alone[0], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("inputs", ["points", "annotations"])
@pytest.mark.parametrize("kind", KINDS)
def test_gradients_reach_every_weight(kind, inputs):
    graphdef, params = nnx.split(network(kind, glimpses=1, bound=3.0, inputs=inputs))
    choices = jnp.array([[1, 4, 2, 5, N, N, N]] * B)

    def cost(params):
        return -jnp.sum(log_prob(nnx.merge(graphdef, params), choices, Hull((3, N))))

    for path, gradient in nnx.to_flat_state(jax.jit(jax.grad(cost))(params)):
        assert jnp.all(jnp.isfinite(gradient[...])) and jnp.any(gradient[...] != 0), path


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        (
            {"encoder": {"kind": "tree", "layers": 1, "heads": 1}},
            "one of lstm, set, transformer, not 'tree'",
        ),
        (
            {"encoder": {"kind": "lstm", "layers": 2, "heads": 1}},
            "'lstm' has no 2 layers of 1 heads",
        ),
        (
            {"encoder": {"kind": "transformer", "layers": 1, "heads": 3}},
            "3 heads cannot share a width of 8",
        ),
        ({"inputs": "cities"}, "inputs must be points or annotations, not 'cities'"),
    ],
)
def test_what_cannot_be_is_a_sentence(wrong, said, unchecked):
    sizes = {"hidden": H, "score": "dot", "width": 5, "glimpses": 0, "bound": 0.0}
    with pytest.raises(ValueError, match=said):
        PointerNet(**sizes, **{"encoder": KINDS["set"], "inputs": "points", "key": KEY} | wrong)
