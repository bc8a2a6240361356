"""Tests of `tasks.image_generation.task`."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from PIL import Image

import tasks
from configs import sagan_digits, sagan_folder
from models import spectral_norm
from tasks.image_generation.data.augment import preprocess
from tasks.image_generation.task import NETWORKS
from tests.commands import fast_compilation
from training import mesh
from training.checkpoints import Checkpoints
from training.errors import UserError
from training.loop import Trainer

KEY = jax.random.key(5)
COMPILER_OPTIONS = {"xla_cpu_use_fusion_emitters": False}  # halves the time of `fast_compilation`


def make_config(**changes):
    config = sagan_digits.get_config("smoke")
    for name, value in changes.items():
        section, key = name.split("__")
        config[section][key] = value
    return config


@pytest.fixture(scope="module")
def task(tmp_path_factory):
    return tasks.build(make_config(), str(tmp_path_factory.mktemp("run")))


@pytest.fixture(scope="module")
def batches(task):
    """Return the first three training batches."""
    iterator = task.batches("train", 0)
    batches = [jax.device_put(next(iterator)) for _ in range(3)]
    iterator.close()
    return batches


@pytest.fixture(scope="module")
def steps(task, batches):
    """States and metrics of three steps, and the compiled step."""
    with fast_compilation():
        states, metrics = [jax.jit(task.init, compiler_options=COMPILER_OPTIONS)(KEY)], []
        step = jax.jit(task.train_step).lower(states[0], batches[0], KEY).compile(COMPILER_OPTIONS)
    for n, batch in enumerate(batches):
        state, step_metrics = step(states[-1], batch, jax.random.fold_in(KEY, n))
        states.append(state)
        metrics.append({name: float(x) for name, x in step_metrics.items()})
    return states, metrics, step


@pytest.fixture(scope="module")
def normalize():
    """Spectral normalization of both networks."""

    @jax.jit
    def normalize(params, vectors):
        pairs = [spectral_norm.normalize(params[name], vectors[name]) for name in NETWORKS]
        return [dict(zip(NETWORKS, x, strict=True)) for x in zip(*pairs, strict=True)]

    def compile_fast(params, vectors):
        with fast_compilation():
            return normalize(params, vectors)

    return compile_fast


def leaves(tree):
    return [np.asarray(x) for x in jax.tree.leaves(tree)]


def test_restored_state_and_batches_give_an_identical_step(task, steps, tmp_path):
    states, _, step = steps
    checkpoints = Checkpoints.from_config(str(tmp_path), make_config().train)
    checkpoints.save(2, states[2], KEY, 0.0)
    checkpoints.wait()
    device_mesh = mesh.make_mesh(data=1, fsdp=1, tensor=1)
    restored = checkpoints.restore(mesh.abstract_state(jax.eval_shape(task.init, KEY), device_mesh))
    checkpoints.close()
    iterator = task.batches("train", 2)
    state = jax.device_put(restored.state, jax.devices()[0])
    resumed, _ = step(state, next(iterator), jax.random.fold_in(KEY, 2))
    iterator.close()
    for a, b in zip(leaves(resumed), leaves(states[3]), strict=True):
        np.testing.assert_array_equal(a, b)


def test_every_parameter_and_singular_vector_changes_in_a_step(steps):
    states, _, _ = steps
    for name in NETWORKS:
        before = dict(nnx.to_flat_state(states[2].params[name]))
        for path, after in nnx.to_flat_state(states[3].params[name]):
            assert np.any(np.asarray(after[...]) != np.asarray(before[path][...])), path
        for path, after in states[3].vectors[name].items():
            # The vector of a matrix with one column is constant.
            assert len(after) == 1 or np.any(after != states[2].vectors[name][path]), path
    assert int(states[3].step) == 3


def test_ema_starts_at_the_normalized_parameters_with_a_decay_of_one_tenth(steps, normalize):
    """The decay of step 0 is (1 + 0) / (10 + 0)."""
    states, _, _ = steps
    initial, vectors = normalize(states[0].params, states[0].vectors)
    new, _ = normalize(states[0].params, vectors)
    trees = (states[1].ema_params, initial["generator"], new["generator"])
    for ema, a, b in zip(*map(leaves, trees), strict=True):
        np.testing.assert_allclose(ema, 0.1 * a + 0.9 * b, rtol=1e-4, atol=1e-6)


def test_losses_equal_numpy(task, steps, batches, normalize):
    """Hinge losses; the generator loss uses the updated discriminator."""
    states, metrics, _ = steps
    state, keys = states[0], jax.random.split(jax.random.fold_in(KEY, 0), 3)
    labels = batches[0]["label"]

    @jax.jit
    def compute_scores(params, key):
        networks = {name: nnx.merge(task.graphdefs[name], params[name]) for name in NETWORKS}
        latents = jax.random.normal(key, (len(labels), task.config.model.latent_size))
        fake = networks["generator"](latents, labels).images
        real = preprocess(batches[0]["image"], task.augmentation, keys[0])
        return [networks["discriminator"](images, labels) for images in (real, fake)]

    with fast_compilation():
        params, vectors = normalize(state.params, state.vectors)
        real_scores, fake_scores = map(np.asarray, compute_scores(params, keys[1]))
        updated = {"discriminator": states[1].params["discriminator"]}
        params, _ = normalize(state.params | updated, vectors)
        _, updated_scores = map(np.asarray, compute_scores(params, keys[2]))
    loss = np.maximum(0, 1 - real_scores).mean() + np.maximum(0, 1 + fake_scores).mean()
    assert metrics[0]["loss"] == pytest.approx(loss, rel=1e-3)
    assert metrics[0]["fake_score"] == pytest.approx(fake_scores.mean(), rel=1e-3, abs=1e-4)
    generator_loss = -updated_scores.mean()
    assert metrics[0]["generator_loss"] == pytest.approx(generator_loss, rel=1e-3, abs=1e-4)


def test_consecutive_steps_of_low_diversity_and_low_loss_are_counted(steps, batches):
    """A zero gain of the last norm makes all images equal."""
    states, _, step = steps
    collapsed = jax.tree.map(jnp.copy, states[3].params["generator"])
    collapsed["norm"]["gain"][...] = jnp.zeros_like(collapsed["norm"]["gain"][...])
    state = states[3]._replace(
        params=states[3].params | {"generator": collapsed},
        low_diversity_steps=jnp.int32(41),
        low_loss_steps=jnp.int32(7),
    )
    state, metrics = step(state, batches[0], KEY)
    assert (int(state.low_diversity_steps), int(state.low_loss_steps)) == (42, 0)
    assert metrics["diversity"] < 1e-3


@pytest.mark.parametrize(
    ("metrics", "message"),
    [
        (
            {"low_loss_steps": 300, "low_diversity_steps": 0},
            "the discriminator's loss was below 0.01 for 300 steps",
        ),
        (
            {"low_loss_steps": 0, "low_diversity_steps": 300},
            "varied less than 5% as much as the real images for 300 steps",
        ),
    ],
)
def test_divergence_is_reported_with_the_step(task, metrics, message):
    below = {"low_loss_steps": 299, "low_diversity_steps": 299, "loss": 0.0}
    assert task.check_divergence(below) == ""

    class PartialTrainer(Trainer):
        def __init__(self):
            self.task = task

    reason = PartialTrainer().check_divergence(7, metrics | {"loss": np.float32(0.0)})
    assert reason.startswith("At step 7: ") and message in reason


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"train__average": 2, "train__keep": 2}, "train.average must be 1"),
        ({"model__attention_resolution": 5}, "config section 'model': attention_resolution must"),
        ({"data__source": "digit"}, "Unknown data.source='digit'.*Did you mean 'digits'"),
        ({"data__channels": 2}, "data.channels must be 1 for grayscale or 3 for RGB, not 2"),
        ({"evaluation__inception_weights": "missing"}, "inception_weights='missing' does not exi"),
        ({"evaluation__samples": 3}, "need more than 3 images, not 3"),
    ],
)
def test_invalid_config_is_rejected(changes, message, tmp_path):
    with pytest.raises(UserError, match=message):
        tasks.build(make_config(**changes), str(tmp_path))


def test_figures_show_a_sample_of_many_classes(task, tmp_path):
    """The first classes are often similar, such as the fish of ImageNet."""
    _, labels = task._figure_inputs()
    np.testing.assert_array_equal(labels, np.repeat(np.arange(10), 10))
    for n in range(40):
        path = tmp_path / "images" / f"class{n:02}" / "0.png"
        path.parent.mkdir(parents=True)
        Image.fromarray(np.full((4, 4), n, np.uint8)).save(path)
    config = sagan_folder.get_config("smoke")
    config.data.update(dir=str(tmp_path / "images"), channels=1)
    many = tasks.build_abstract(config, str(tmp_path / "run"))
    rows = np.asarray(many._figure_inputs()[1]).reshape(10, 10)
    assert (rows == rows[:, :1]).all() and len(set(rows[:, 0])) == 10
    assert rows[:, 0].max() >= 20


def test_abstract_task_needs_no_inception_weights(tmp_path):
    config = make_config(evaluation__inception_weights="missing")
    task = tasks.build_abstract(config, str(tmp_path))
    assert "from features of Inception" in task.describe()["metrics"]
