"""The captioning task: loss, evaluation, figures, and rejected configs."""

import warnings

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from matplotlib.backends.backend_agg import FigureCanvasAgg

import tasks
from configs import captioning_scenes
from tasks.captioning import figures
from tasks.captioning.data.dataset import CaptionedImages
from tasks.captioning.task import normalize
from tests.models.tiny import unoptimized_jit, with_random_params
from training.errors import UserError
from training.loop import fit
from training.state import TrainState


def smoke_config():
    """Smoke config with one convolution, because convolutions dominate compilation."""
    config = captioning_scenes.get_config("smoke")
    config.model.encoder.update(patch=8, widths=(8,))
    config.doubly_stochastic = 0.3
    return config


@pytest.fixture(scope="module")
def task(tmp_path_factory):
    return tasks.build(smoke_config(), str(tmp_path_factory.mktemp("captioning")))


@pytest.fixture(scope="module")
def params(task):
    return nnx.state(with_random_params(lambda: task.create(key=jax.random.key(0))))


def test_loss_is_cross_entropy_plus_penalty(task, params):
    batch = jax.tree.map(jnp.asarray, next(task.batches("train", 0)))

    @unoptimized_jit
    def run(params):
        model = nnx.merge(task.graphdef, params)
        states, alignment = model.decode(batch["caption"], model.encode(normalize(batch["image"])))
        return states @ model.output_embedding.T, alignment.weights, task.loss(params, batch, None)

    logits, weights, (loss, words, sums) = jax.device_get(run(params))
    batch = jax.device_get(batch)
    valid = batch["caption"] != 0
    log_probs = logits - np.log(np.exp(logits).sum(-1, keepdims=True))
    nll = -np.take_along_axis(log_probs, batch["caption"][..., None], -1)[..., 0]
    totals = (weights * valid[..., None]).sum(1)
    assert words == valid.sum()
    np.testing.assert_allclose(sums["cross_entropy"], nll[valid].sum(), rtol=1e-4)
    expected = nll[valid].sum() + 0.3 * ((1 - totals) ** 2).sum()
    np.testing.assert_allclose(loss, expected, rtol=1e-4)


def test_loss_without_attention_has_no_penalty(tmp_path):
    config = smoke_config()
    config.model.attention.alignment = "none"
    task = tasks.build(config, str(tmp_path))
    params = nnx.state(with_random_params(lambda: task.create(key=jax.random.key(0))))
    batch = jax.tree.map(jnp.asarray, next(task.batches("train", 0)))
    loss, _, sums = unoptimized_jit(lambda params: task.loss(params, batch, None))(params)
    assert loss == sums["cross_entropy"]


def test_largest_batch_has_the_shapes_of_the_batches_with_the_longest_captions(task):
    largest = task.largest_batch()
    batches = task.batches("train", 0)
    batch = max((next(batches) for _ in range(8)), key=lambda batch: batch["caption"].size)
    batches.close()
    assert {name: (x.shape, x.dtype) for name, x in batch.items()} == {
        name: (x.shape, x.dtype) for name, x in largest.items()
    }


def test_training_batches_after_a_resume_are_those_of_an_uninterrupted_run(task):
    uninterrupted = task.batches("train", 0)
    expected = [next(uninterrupted) for _ in range(3)][2]
    resumed = next(task.batches("train", 2))
    np.testing.assert_array_equal(resumed["caption"], expected["caption"])
    np.testing.assert_array_equal(resumed["image"], expected["image"])


def test_samples_are_not_the_first_images_of_the_test_split(task, monkeypatch):
    """Datasets list images in an order that may have a meaning."""
    count = 100
    pixels = np.arange(count, dtype=np.uint8)[:, None, None, None] * np.ones((8, 8, 3), np.uint8)
    images = CaptionedImages(pixels, [(f"image {n}",) for n in range(count)], pixels)
    monkeypatch.setattr(task, "dataset", {"test": images})
    shown = []

    def caption(params, inputs, width):
        shown.append(inputs[:, 0, 0, 0].tolist())
        return [f"image {n}" for n in shown[-1]]

    monkeypatch.setattr(task, "caption", caption)
    monkeypatch.setattr(figures, "caption_maps", lambda *arguments: [])
    monkeypatch.setattr(task, "_read", lambda *arguments: (None, np.zeros((3, 1))))
    state = TrainState(jnp.int32(0), None, None)
    lines = [line.split()[-1] for line in task.samples(state).splitlines() if line]
    task.figures(state)
    assert [int(n) for n in lines] == [n for n in shown[0] for _ in range(2)]
    assert [len(numbers) for numbers in shown] == [4, 3]
    assert min(map(max, shown)) >= 10


def test_captions_do_not_depend_on_the_batch(task, params):
    images = task.dataset["test"].inputs
    together = task.caption(params, images[:3], width=2)
    assert together == [task.caption(params, images[n : n + 1], width=2)[0] for n in range(3)]


def pointing_hits(images, weights, grid):
    """Whether the largest weight `[N, K, T, P]` is in the box, for each digit and color word."""
    content = np.isin(images.grounding.word_classes, [1, 2])
    hits, side = {}, 64 / grid[0]
    for n, k, t in np.argwhere((images.grounding.word_objects >= 0) & content):
        y, x = np.unravel_index(np.argmax(weights[n, k, t]), grid)
        top, left, bottom, right = images.grounding.boxes[n, images.grounding.word_objects[n, k, t]]
        hits[n, k, t] = top <= (y + 0.5) * side <= bottom and left <= (x + 0.5) * side <= right
    return hits


def test_pointing_of_generated_captions_counts_those_that_equal_a_reference(
    task, params, monkeypatch
):
    images = task.dataset["dev"]
    chosen = {n: n % 5 for n in range(len(images)) if n != 2}
    captions = [images.captions[n][chosen[n]] if n in chosen else "a" for n in range(len(images))]
    monkeypatch.setattr(task, "caption", lambda *args: captions)
    values = task.evaluate(task.init(jax.random.key(0))._replace(params=params), "dev")
    tokens = task.vocabulary.encode_captions(images.captions)
    _, weights = task._read(params, {"image": images.inputs, "caption": tokens})
    hits = pointing_hits(images, np.asarray(weights), task.grid)
    expected = np.mean([hit for (n, k, _), hit in hits.items() if chosen.get(n) == k])
    assert values["pointing_generated"] == pytest.approx(expected)
    assert values["exact_match"] == (len(images) - 1) / len(images)


def test_evaluation_reads_every_reference(task, params):
    """Perplexity is the exponential of the mean NLL of all words, with EOS."""
    images = task.dataset["dev"]
    values = task.evaluate(task.init(jax.random.key(0))._replace(params=params), "dev")
    tokens = task.vocabulary.encode_captions(images.captions)
    nll, weights = task._read(params, {"image": images.inputs, "caption": tokens})
    expected = np.exp(np.asarray(nll).sum() / (tokens != 0).sum())
    assert values["perplexity"] == pytest.approx(float(expected), rel=1e-5)
    hits = pointing_hits(images, np.asarray(weights), task.grid)
    assert values["pointing"] == pytest.approx(np.mean([*hits.values()]))
    assert "pointing_generated" not in values  # no caption of the untrained model is a reference
    assert 0 < values["pointing_chance"] < 0.3


def test_figure_has_a_panel_per_word():
    captions = [["a", "red", "one"], ["two"] * 9]
    weights = [np.random.default_rng(0).random((len(words), 4, 4)) for words in captions]
    image = np.zeros((8, 8, 3), np.uint8)
    figure = figures.attention_over_words([image, image], captions, weights, "title")
    titles = [axes.get_title() for axes in figure.axes if axes.images]
    assert titles == ["", "a", "red", "one", "", *["two"] * 9]
    assert [len(axes.images) for axes in figure.axes if axes.get_title()] == [2] * 12


def test_words_in_any_script_are_plotted_without_warnings():
    image, weights = np.zeros((8, 8, 3), np.uint8), np.ones((2, 4, 4))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        figure = figures.attention_over_words([image], [["\U000f0000", "$\\frac$"]], [weights], "$")
        FigureCanvasAgg(figure).draw()
    titles = [axes.get_title() for axes in figure.axes if axes.images]
    assert titles == ["", "U+F0000", "$\\frac$"]


@pytest.mark.parametrize(
    "name, alignment", [("captioning", "hard"), ("captioning.hard_attention", "soft")]
)
def test_task_and_alignment_must_match(name, alignment, tmp_path):
    config = smoke_config()
    config.task, config.model.attention.alignment = name, alignment
    with pytest.raises(UserError, match="requires --config.task=captioning.hard_attention"):
        tasks.build(config, str(tmp_path))


@pytest.mark.parametrize(
    "change, message",
    [
        ({"data.source": "scene"}, "Unknown data.source='scene'.*Did you mean 'scenes'"),
        ({"model.attention.alignment": "local_m"}, "for images choose"),
        ({"vocabulary_size": 4}, "vocabulary_size=4 must be larger"),
        ({"batching.size": 1000}, r"has batching.size=1000 training captions"),
        ({"batching.lengths": (18, 9)}, "different lengths in ascending order"),
    ],
)
def test_invalid_config_is_rejected(change, message, tmp_path):
    config = smoke_config()
    config.update_from_flattened_dict(change)
    with pytest.raises(UserError, match=message):
        next(tasks.build(config, str(tmp_path)).batches("train", 0))


@pytest.mark.slow
@pytest.mark.parametrize(
    "name, alignment",
    [("captioning", "soft"), ("captioning", "none"), ("captioning.hard_attention", "hard")],
)
def test_model_learns_scenes(name, alignment, tmp_path):
    """After 400 steps captions follow the grammar, and soft attention finds the named digits."""
    config = captioning_scenes.get_config()
    config.task, config.model.attention.alignment = name, alignment
    config.data.update(train=4000, dev=100)
    config.train.update(steps=400, eval_every=400)
    task = tasks.build(config, str(tmp_path))
    metrics = fit(task, config, str(tmp_path))["metrics"]
    assert metrics["dev/perplexity"] < 2.6
    assert metrics["dev/bleu_1"] > 70
    if alignment == "soft":
        assert metrics["dev/pointing"] > 3 * metrics["dev/pointing_chance"]
