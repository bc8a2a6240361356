"""The task of two networks: its update, what it keeps, and when it gives up."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

import tasks
from configs import sagan_digits
from models import spectral_norm as spectral
from models.classifier import Seen
from models.convolutions import BatchNorm
from models.sagan.networks import Generated
from tasks.image_generation.data.augment import prepare
from tasks.image_generation.features import Network
from tasks.image_generation.task import NETWORKS
from tests.commands import fast_compilation
from training import mesh
from training.checkpoints import Checkpoints
from training.errors import UserError
from training.loop import Trainer

KEY = jax.random.key(5)


def config(**changes):
    config = sagan_digits.get_config("smoke")
    for key, value in changes.items():
        section, name = key.split("__")
        config[section][name] = value
    return config


@pytest.fixture(scope="module")
def task(tmp_path_factory):
    return tasks.build(config(), str(tmp_path_factory.mktemp("run")))


@pytest.fixture(scope="module")
def steps(task):
    """The states and metrics of a few updates, and the compiled update."""
    with fast_compilation():
        states, metrics = [jax.jit(task.init)(KEY)], []
        batches = task.batches("train", 0)
        first = jax.device_put(next(batches))
        step = jax.jit(task.train_step).lower(states[0], first, KEY).compile()
    for n, batch in enumerate((first, next(batches), next(batches))):
        state, found = step(states[-1], batch, jax.random.fold_in(KEY, n))
        states.append(state)
        metrics.append({name: float(x) for name, x in found.items()})
    batches.close()
    return states, metrics, step


def flat(tree):
    return [np.asarray(x) for x in jax.tree.leaves(tree)]


def test_the_whole_state_goes_on_from_a_checkpoint_bit_for_bit(task, steps, tmp_path):
    """Both networks, both optimizers, all vectors, the average, and the position in the data."""
    states, _, step = steps
    checkpoints = Checkpoints.of(str(tmp_path), config().train)
    checkpoints.save(2, states[2], KEY, 0.0)
    checkpoints.wait()
    devices = mesh.make_mesh(data=1, fsdp=1, tensor=1)
    restored = checkpoints.restore(mesh.abstract(jax.eval_shape(task.init, KEY), devices))
    checkpoints.close()
    batches = task.batches("train", 2)
    state = jax.device_put(restored.state, jax.devices()[0])
    found, _ = step(state, next(batches), jax.random.fold_in(KEY, 2))
    batches.close()
    for a, b in zip(flat(found), flat(states[3]), strict=True):
        np.testing.assert_array_equal(a, b)


def test_everything_moves_at_every_step(steps):
    states, _, _ = steps
    for name in NETWORKS:
        for path, after in nnx.to_flat_state(states[3].params[name]):
            before = dict(nnx.to_flat_state(states[2].params[name]))[path]
            # The gate has no gradient at zero in what it multiplies, but one itself.
            assert np.any(np.asarray(after[...]) != np.asarray(before[...])), path
        for vector, after in states[3].vectors[name].items():
            # Of a matrix with one column there is but one direction.
            assert len(after) == 1 or np.any(after != states[2].vectors[name][vector]), vector
    assert int(states[3].step) == 3


def test_the_average_is_of_weights_as_they_are_used(steps):
    """It begins as the normalised weights, of which after a step it keeps a tenth: (1+0)/(10+0)."""
    states, _, _ = steps
    normalise = jax.jit(spectral.normalise)
    with fast_compilation():
        first, vectors = normalise(states[0].params["generator"], states[0].vectors["generator"])
    used, _ = normalise(states[0].params["generator"], vectors)
    for a, start, w in zip(flat(states[1].average), flat(first), flat(used), strict=True):
        np.testing.assert_allclose(a, 0.1 * start + 0.9 * w, rtol=1e-4, atol=1e-6)


def test_losses_are_hinges(task, steps):
    """By NumPy, of what the networks of the state before say; the generator's, of the new judge."""
    states, metrics, _ = steps
    state, keys = states[0], jax.random.split(jax.random.fold_in(KEY, 0), 3)
    batches = task.batches("train", 0)
    batch = jax.device_put(next(batches))
    batches.close()
    labels = batch["label"]

    @jax.jit
    def normalised(params, vectors):
        pairs = [spectral.normalise(params[name], vectors[name]) for name in NETWORKS]
        return [dict(zip(NETWORKS, x, strict=True)) for x in zip(*pairs, strict=True)]

    @jax.jit
    def scores(weights, key):
        models = {name: nnx.merge(task.graphs[name], weights[name]) for name in NETWORKS}
        noise = jax.random.normal(key, (len(labels), task.config.model.latent))
        fake = models["generator"](noise, labels).images
        real = prepare(batch["image"], task.augment, keys[0])
        return [models["discriminator"](images, labels) for images in (real, fake)]

    with fast_compilation():
        weights, vectors = normalised(state.params, state.vectors)
        of_real, of_fake = map(np.asarray, scores(weights, keys[1]))
        judge = {"discriminator": states[1].params["discriminator"]}
        weights, _ = normalised(state.params | judge, vectors)
        _, judged = map(np.asarray, scores(weights, keys[2]))
    expected = np.maximum(0, 1 - of_real).mean() + np.maximum(0, 1 + of_fake).mean()
    assert metrics[0]["loss"] == pytest.approx(expected, rel=1e-3)
    assert metrics[0]["fake_score"] == pytest.approx(of_fake.mean(), rel=1e-3, abs=1e-4)
    assert metrics[0]["generator_loss"] == pytest.approx(-judged.mean(), rel=1e-3, abs=1e-4)


def test_the_sampler_normalises_by_the_moments_of_all_batches_together(task, monkeypatch):
    """As if they were one, which varies by more than each does around a mean of its own."""
    norm, rows = BatchNorm(3), task.config.batch

    def maps(key, labels):
        return jax.random.normal(key, (rows, 2, 2, 3)) + labels[:, None, None, None]

    def generate(weights, moments, key, labels):
        images = maps(key, labels)
        return Generated(images, (norm(images)[1],), None)

    monkeypatch.setattr(task, "_generate", generate)
    (found,) = task._moments(None)
    labels = np.arange(task.config.model.moments * rows).reshape(-1, rows) % len(task.classes)
    keys = [jax.random.fold_in(jax.random.key(2019), n) for n in range(len(labels))]
    whole = np.concatenate([maps(key, told) for key, told in zip(keys, labels, strict=True)])
    np.testing.assert_allclose(found.mean, whole.mean((0, 1, 2)), rtol=1e-4)
    np.testing.assert_allclose(found.variance, whole.var((0, 1, 2)), rtol=1e-4)


def test_steps_without_hope_are_counted_and_one_with_some_begins_anew(task, steps):
    states, _, step = steps
    batches = task.batches("train", 0)
    batch = next(batches)
    batches.close()
    blind = jax.tree.map(jnp.copy, states[3].params["generator"])
    blind["norm"]["gain"][...] = jnp.zeros_like(blind["norm"]["gain"][...])
    state = states[3]._replace(
        params=states[3].params | {"generator": blind}, uniform=jnp.int32(41), won=jnp.int32(7)
    )
    state, metrics = step(state, batch, KEY)
    assert (int(state.uniform), int(state.won)) == (42, 0)
    assert metrics["diversity"] < 1e-3


@pytest.mark.parametrize(
    ("metrics", "said"),
    [
        ({"won": 300, "uniform": 0}, "discriminator's loss has been below 0.01 for 300 steps"),
        ({"won": 0, "uniform": 300}, "differed by less than 5% of what real ones do for 300 steps"),
    ],
)
def test_a_run_without_hope_is_stopped_with_a_sentence(task, metrics, said):
    """By the loop, which names the step and the checkpoint that is kept."""
    assert task.fault({"won": 299, "uniform": 299, "loss": 0.0}) == ""

    class Loop(Trainer):
        def __init__(self):
            self.task = task

    with pytest.raises(UserError, match=said):
        raise UserError(Loop().fault(7, metrics | {"loss": np.float32(0.0)}))
    assert Loop().fault(7, metrics | {"loss": np.float32(0.0)}).startswith("At step 7: ")


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"train__average": 2, "train__keep": 2}, "train.average must be 1"),
        ({"model__feature": 5}, "section 'model' is no good: feature must be one of"),
        ({"data__source": "digit"}, "no data.source='digit'.*Did you mean 'digits'"),
        ({"data__channels": 2}, "data.channels is 1 for grey or 3 for colour, not 2"),
        ({"measure__inception_weights": "nowhere"}, "inception_weights='nowhere' is not there"),
        ({"measure__samples": 3}, "3 images are too few to be judged by their 3 nearest"),
    ],
)
def test_what_cannot_be_is_a_sentence(changes, said, tmp_path):
    with pytest.raises(UserError, match=said):
        tasks.build(config(**changes), str(tmp_path))


def test_no_real_image_is_its_own_neighbour(task, monkeypatch):
    """Of more drawn images than there are real ones, these are looked at once."""
    monkeypatch.setattr(task.judge, "samples", 3 * len(task.images["test"]))
    monkeypatch.setattr(task.judge, "few", 3 * len(task.images["test"]))
    monkeypatch.setattr(task.judge, "_references", {})
    pixels = lambda images: Seen(np.asarray(images).reshape(len(images), -1), None)
    monkeypatch.setattr(task.judge, "_network", Network(pixels, "", judges=False))
    reference = task.judge._reference("test")
    assert len(reference.labels) == 3 * len(reference.kept) == 3 * len(task.images["test"])
    assert len(np.unique(reference.kept, axis=0)) == len(reference.kept)


def test_shapes_can_be_had_without_what_judges(tmp_path):
    changed = config(measure__inception_weights="nowhere")
    assert "by Inception" in tasks.build_abstract(changed, str(tmp_path)).describe()["metrics"]
