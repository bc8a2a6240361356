"""Tasks about points: their measures by hand and by what is published, and that they can learn."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import tasks
from configs import ptrnet_delaunay, ptrnet_hull, ptrnet_hull_gpu, ptrnet_tsp, ptrnet_tsp20_rl
from tasks.pointing.convex_hull import area, is_simple, same_polygon
from tasks.pointing.delaunay import triangles
from tasks.pointing.instances import Points
from tasks.pointing.tsp import tour_lengths
from tasks.pointing.tsp_reinforce import is_shorter, mean_of_others
from tests.commands import fast_compilation
from training.errors import UserError
from training.state import TrainState


def nearest_neighbours(cities):
    """Tours from the first city that always go on to the nearest."""
    rows, n, _ = cities.shape
    order, left = np.zeros((rows, n), int), np.ones((rows, n), bool)
    for step in range(1, n):
        left[np.arange(rows), order[:, step - 1]] = False
        here = cities[np.arange(rows), order[:, step - 1]]
        far = np.where(left, np.linalg.norm(cities - here[:, None], axis=-1), np.inf)
        order[:, step] = np.argmin(far, axis=1)
    return order


@pytest.mark.parametrize(("n", "published"), [(20, 4.50), (50, 7.00), (100, 9.68)])
def test_nearest_neighbours_are_as_long_as_published(n, published):
    """Kool et al. 2019, table 1, within three standard errors and its rounding."""
    cities = np.random.default_rng(n).random((2_000, n, 2))
    lengths = tour_lengths(cities, nearest_neighbours(cities))
    assert abs(lengths.mean() - published) < 3 * lengths.std() / 2_000**0.5 + 0.005


def test_polygons():
    square = np.array([[0.0, 0.0], [2.0, 0.0], [2.0, 1.0], [0.0, 1.0]])
    assert area(square) == area(square[::-1]) == 2.0
    assert is_simple(square) and is_simple(square[[1, 2, 3, 0]]) and is_simple(square[:3])
    assert not is_simple(square[[0, 2, 1, 3]])  # a bow tie
    assert not is_simple(square[:2]) and not is_simple(square[[0, 1, 2, 0]])
    assert same_polygon(np.array([3, 1, 2]), np.array([1, 2, 3]))
    for other in ([1, 3, 2], [1, 2], [1, 2, 4], []):
        assert not same_polygon(np.array(other, int), np.array([1, 2, 3]))


def test_most_random_polygons_are_not_simple_and_stars_are():
    """Points by angle around their mean make a polygon that nothing crosses."""
    rng = np.random.default_rng(0)
    for points in rng.random((20, 9, 2)):
        angle = np.arctan2(*(points - points.mean(0)).T)
        assert is_simple(points[np.argsort(angle)])
    assert sum(map(is_simple, rng.random((50, 9, 2)))) < 10


def test_triangles_have_no_order_and_what_is_left_over_is_none():
    found = triangles(np.array([2, 0, 1, 1, 2, 3, 0]))
    assert found == triangles(np.array([3, 2, 1, 0, 1, 2])) and len(found) == 2


def tiny(module, **data):
    """A task that fits a second: its smoke variant, a little wider, on a few instances."""
    config = module.get_config("smoke")
    config.model.update(hidden=32, width=32)
    config.batch = 16
    config.optimizer.update(schedule="constant", steps=None, learning_rate=1e-2)
    config.data.update(data)
    return config


def learned(config, workdir, example, steps):
    """Loss before and after learning one batch by heart, and the share answered right."""
    task = tasks.build(config, str(workdir))
    task.example = lambda batch, key: example
    key, batch = jax.random.key(0), {"index": jnp.arange(config.batch)}
    state = jax.jit(task.init)(key)
    step = jax.jit(lambda state: task.train_step(state, batch, key))
    with fast_compilation():
        state, first = step(state)
        for _ in range(steps):
            state, last = step(state)
    return float(first["loss"]), float(last["loss"]), float(last["right"])


@pytest.mark.parametrize(
    ("module", "steps"),
    [
        (ptrnet_tsp, 250),
        (ptrnet_hull, 600),
        pytest.param(ptrnet_delaunay, 900, marks=pytest.mark.slow),
    ],
)
def test_a_few_answers_are_learned_by_heart(module, steps, tmp_path):
    config = tiny(module, sizes=(5, 5))
    task = tasks.build(config, str(tmp_path))
    points = np.random.default_rng(1).random((16, 5, 2)).astype(np.float32)
    choices = np.full((16, task.problem.length), 5, np.int32)
    for row, answer in zip(choices, task.solve(points), strict=True):
        row[: len(answer)] = answer
    example = Points(jnp.asarray(points), jnp.int32(5), jnp.asarray(choices))
    first, last, right = learned(config, tmp_path, example, steps)
    assert last < first / 20 and right == 1.0


@pytest.mark.parametrize("module", [ptrnet_tsp, ptrnet_hull, ptrnet_delaunay])
def test_what_is_learned_does_not_depend_on_how_long_arrays_are(module, tmp_path):
    config = tiny(module, sizes=(5, 9))
    if "instances" in config.data.labels:
        config.data.labels.instances = 25_600  # as five sizes want; none is made here
    task = tasks.build(config, str(tmp_path))
    points = np.random.default_rng(1).random((16, 5, 2)).astype(np.float32)
    answers = task.solve(points)
    longest = max(map(len, answers)) + task.problem.ends

    def gradients(params, size, length):
        choices = np.full((16, length), size, np.int32)
        for row, answer in zip(choices, answers, strict=True):
            row[: len(answer)] = answer
        filled = jnp.pad(points, ((0, 0), (0, size - 5), (0, 0)))
        task.example = lambda batch, key: Points(filled, jnp.int32(5), jnp.asarray(choices))
        loss = lambda params: task.loss(params, None, jax.random.key(0))[0]
        return jax.jit(jax.value_and_grad(loss))(params)

    params = task.init_params(jax.random.key(0))
    short, long = gradients(params, 5, longest), gradients(params, 9, task.problem.length)
    jax.tree.map(lambda x, y: np.testing.assert_allclose(x, y, rtol=1e-4, atol=1e-4), short, long)


def test_whoever_answers_right_measures_perfectly(tmp_path):
    """The measures of the right answers, put in the place of the network's."""
    perfect = {
        ptrnet_tsp: {"gap": 0.0, "valid": 1.0},
        ptrnet_hull: {"accuracy": 1.0, "simple": 1.0, "area": 1.0},
        ptrnet_delaunay: {"accuracy": 1.0, "coverage": 1.0},
    }
    for module, expected in perfect.items():
        task = tasks.build(tiny(module), str(tmp_path))

        def answer(state, points, free=False, task=task):
            rows = np.full((len(points), task.problem.length), points.shape[1])
            for row, right in zip(rows, task.solve(points), strict=True):
                row[: len(right)] = right
            return rows if task.problem.ends else rows[:, : points.shape[1]]

        task.answer = answer
        found = task.measure(TrainState(jnp.int32(0), None, None), "dev", 5)
        for name, value in expected.items():
            np.testing.assert_allclose(found[name], value, atol=1e-6, err_msg=name)


def test_an_untrained_network_tours_only_if_it_must(tmp_path):
    task = tasks.build(tiny(ptrnet_tsp), str(tmp_path))
    task.solve = lambda cities: list(nearest_neighbours(cities))
    with fast_compilation():
        state = TrainState(jnp.int32(0), jax.jit(task.init_params)(jax.random.key(0)), None)
        assert task.measure(state, "dev", 6)["valid"] < 0.5
        tours = np.sort(task.answer(state, task.points_of("dev", 6)), axis=1)
    np.testing.assert_array_equal(tours, np.broadcast_to(np.arange(6), tours.shape))


def test_labels_that_cannot_be_kept_are_not_made(tmp_path):
    config = tiny(ptrnet_hull)
    config.data.labels.folder = "/proc/x"
    task = tasks.build(config, str(tmp_path))
    with pytest.raises(UserError, match="Cannot write to /proc/x"):
        task.batches("train", 0)
    assert not list(tmp_path.iterdir())


def test_there_is_no_area_of_hulls_that_are_too_seldom_polygons(tmp_path):
    task = tasks.build(tiny(ptrnet_hull), str(tmp_path))
    task.answer = lambda state, points: np.zeros((len(points), 6), int)
    assert task.measure(TrainState(jnp.int32(0), None, None), "dev", 5).keys() == {
        "accuracy",
        "simple",
    }


def test_without_a_teacher_only_valid_tours_are_drawn(tmp_path):
    config = ptrnet_tsp20_rl.get_config("smoke")
    config.masked = False
    with pytest.raises(UserError, match="so 'masked' must be True"):
        tasks.build(config, str(tmp_path))


def reinforced(workdir, steps, baseline):
    """Learning to tour six cities: the mean lengths of the tours drawn, and every step's mark.

    Tours at random are 3.12 long, the shortest 2.31.
    """
    config = ptrnet_tsp20_rl.get_config("smoke")
    config.data.sizes = (6, 6)
    config.model.update(hidden=32, width=32, bound=10.0, inputs="annotations")
    config.model.encoder = {"kind": "transformer", "layers": 1, "heads": 4}
    config.batch = 32
    config.reinforce = {"tours": 8, "baseline": baseline}
    config.optimizer.update(schedule="constant", steps=None, learning_rate=3e-3)
    task, key = tasks.build(config, str(workdir)), jax.random.key(0)
    state = jax.jit(task.init)(key)
    batch = {"index": jnp.arange(32)}
    step = jax.jit(lambda state: task.train_step(state, batch, jax.random.fold_in(key, state.step)))
    lengths, marks = [], [state.best]
    for _ in range(steps):
        state, metrics = step(state)
        lengths.append(float(metrics["loss"]))
        marks.append(state.best)
    return lengths, marks


def test_tours_through_the_same_cities_are_marks_for_each_other(tmp_path):
    lengths, _ = reinforced(tmp_path, 250, {"by": "others"})
    assert np.mean(lengths[:5]) > 3.0 and np.mean(lengths[-20:]) < 2.55


def test_a_better_policy_raises_the_mark(tmp_path):
    """When it is due, and not before."""
    lengths, marks = reinforced(tmp_path, 100, {"by": "rollout", "every": 20, "held": 1_000})
    assert np.mean(lengths[:5]) > 3.0 and np.mean(lengths[-20:]) < 2.85
    same = [jax.tree.all(jax.tree.map(jnp.array_equal, *two)) for two in itertools.pairwise(marks)]
    assert not all(same)
    assert all(same[n] for n in range(100) if (n + 1) % 20)


def test_the_mean_of_others_by_hand():
    """Without a number's own part: what a mark must not depend on if the gradient is to be true."""
    found = mean_of_others(jnp.array([[1.0, 2.0, 6.0], [0.0, 0.0, 3.0]]))
    np.testing.assert_allclose(found, [[4.0, 3.5, 1.5], [1.5, 1.5, 0.0]])


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"baseline": {"by": "other"}}, "not 'other'. Did you mean 'others'"),
        ({"baseline": {"by": "rollout"}}, "by 'rollout' has to give every and held besides"),
        ({"baseline": {"by": "others", "held": 9}}, "by 'others' has to give nothing besides"),
        ({"tours": 1}, "reinforce.tours is 1, and 'others' wants 2 or more"),
    ],
)
def test_there_must_be_something_to_compare_a_tour_with(options, said, tmp_path):
    config = ptrnet_tsp20_rl.get_config("smoke")
    config.reinforce = config.reinforce.to_dict() | options
    with pytest.raises(UserError, match=said):
        tasks.build(config, str(tmp_path))


def test_tours_of_a_batch_are_not_drawn_in_parts(tmp_path):
    config = ptrnet_tsp20_rl.get_config("smoke")
    config.train.accumulate = 2
    with pytest.raises(UserError, match="train.accumulate must be 1"):
        tasks.build(config, str(tmp_path))


def test_a_mark_falls_only_to_what_is_surely_shorter():
    """Of 1,000 pairs with differences of mean m and deviation 1, t is m * 31.6."""
    rng = np.random.default_rng(0)
    noise = rng.normal(size=1_000)
    noise = (noise - noise.mean()) / noise.std(ddof=1)
    other = jnp.asarray(rng.normal(size=1_000), jnp.float32)
    for mean, expected in ((-0.06, True), (-0.04, False), (0.06, False)):
        assert bool(is_shorter(other + jnp.asarray(noise + mean, jnp.float32), other)) is expected


@pytest.mark.parametrize("config", [ptrnet_hull_gpu, ptrnet_delaunay, ptrnet_tsp])
def test_answers_made_inside_the_step_are_those_of_the_host(config, tmp_path):
    """Of as many points as the key says, each batch of other ones."""
    config = config.get_config()
    config.data.sizes = (4, 7)
    task, rows = tasks.build(config, str(tmp_path)), {"index": jnp.arange(50)}
    drawn = [task.example(rows, jax.random.key(n)) for n in range(4)]
    assert len({int(one.n) for one in drawn}) > 1
    for points, n, choices in drawn:
        for answer, right in zip(choices, task.solve(np.asarray(points[:, :n])), strict=True):
            assert np.array_equal(answer[answer < points.shape[1]], right)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"sizes": (5, 13)}, "'held_karp' is for up to 12 points, not 13: take 'local_search'"),
        ({"sizes": (2, 5)}, "There is no Tour of 2 to 5 points"),
        ({"sizes": (5, 7, 9)}, "config section 'data'"),
        ({"labels": {"by": "local_search"}}, "has to give 'instances' and 'folder'"),
        ({"labels": {"by": "held_carp"}}, "not 'held_carp'. Did you mean 'held_karp'"),
    ],
)
def test_what_cannot_be_is_a_sentence(changes, said, tmp_path):
    config = ptrnet_tsp.get_config("smoke")
    config.data = config.data.to_dict() | changes
    with pytest.raises(UserError, match=said):
        tasks.build(config, str(tmp_path))
