"""Tests of `tasks.image_generation.evaluation` with pixels as features."""

import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

from models.classifier import ClassifierOutput
from models.sagan import GeneratorOutput
from tasks.image_generation.data.augment import Augmentation
from tasks.image_generation.data.batching import to_float
from tasks.image_generation.data.sources import InMemoryImages, load
from tasks.image_generation.evaluation import Evaluator
from tasks.image_generation.feature_extractors import FeatureExtractor
from tasks.image_generation.metrics import Gaussian, frechet_distance
from training.errors import UserError

COUNT, BATCH_SIZE = 48, 20
CLASSES = ("a", "b")


def random_images(seed, darkest):
    """Random images in random classes, whose pixels cover half of the value range."""
    rng = np.random.default_rng(seed)
    images = rng.integers(darkest, darkest + 128, (COUNT, 4, 4, 1), np.uint8)
    return InMemoryImages(images, rng.integers(0, 2, COUNT, np.int32), CLASSES)


IMAGES = {"train": random_images(0, darkest=0), "test": random_images(1, darkest=128)}


def make_evaluator(samples=COUNT, intra_class_samples=0):
    evaluator = Evaluator(
        IMAGES,
        Augmentation(0.0, 0.0, 0.0, False),
        "",
        True,
        samples=samples,
        batch=BATCH_SIZE,
        neighbor_samples=samples,
        inception_weights="",
        classifier={},
        intra_class_samples=intra_class_samples,
    )
    evaluator._extractor = FeatureExtractor(pixels, "", predicts_labels=False)
    return evaluator


def pixels(images):
    flat = jnp.reshape(images, (len(images), -1))
    return ClassifierOutput(flat, jnp.zeros((len(images), len(CLASSES))))


def evaluate(split, images, labels):
    """Metrics of generated images, which must be requested with the given labels in order."""
    starts = iter(range(0, COUNT, BATCH_SIZE))

    def sample(key, requested):
        indices = np.arange(BATCH_SIZE) + next(starts)
        valid = indices < COUNT
        np.testing.assert_array_equal(np.asarray(requested)[valid], labels[indices[valid]])
        return GeneratorOutput(jnp.asarray(to_float(images[indices % COUNT])), (), None)

    return make_evaluator().evaluate(sample, split)


@pytest.mark.parametrize(
    ("split", "real"), [("train", "train"), ("dev", "train"), ("test", "test")]
)
def test_metrics_of_the_reference_images_are_optimal(split, real):
    """The reference of `test` is the test split, which differs from the training split."""
    metrics = evaluate(split, IMAGES[real].images, IMAGES[real].labels)
    assert metrics["fid"] == pytest.approx(0.0, abs=1e-6)
    assert metrics["precision"] == metrics["recall"] == 1.0
    assert metrics["diversity"] == pytest.approx(1.0)


def test_one_repeated_image_has_precision_without_recall_and_diversity():
    real = IMAGES["test"]
    metrics = evaluate("test", np.broadcast_to(real.images[:1], real.images.shape), real.labels)
    assert metrics["precision"] == 1.0 and metrics["recall"] <= 1 / COUNT
    assert metrics["diversity"] == pytest.approx(0.0, abs=1e-9)
    assert metrics["fid"] > 1.0


def test_reference_features_contain_each_real_image_once():
    """More images are generated than real images exist."""
    reference = make_evaluator(samples=3 * COUNT)._reference("test")
    assert len(reference.labels) == 3 * len(reference.features) == 3 * COUNT
    assert len(np.unique(reference.features, axis=0)) == COUNT


def test_diversity_is_not_reported_for_one_image_per_class():
    """Its denominator, the within-class variance of the real images, is zero."""
    pixels = random_images(2, darkest=0).images
    images = InMemoryImages(pixels, np.arange(COUNT), tuple(map(str, range(COUNT))))
    evaluator = make_evaluator()
    evaluator.images = {"train": images, "test": images}
    evaluator.validate()
    sample = lambda key, labels: GeneratorOutput(jnp.asarray(to_float(pixels[labels])), (), None)
    metrics = evaluator.evaluate(sample, "dev")
    assert metrics.keys() == {"fid", "inception_score", "precision", "recall"}
    assert metrics["fid"] == pytest.approx(0.0, abs=1e-6) and metrics["recall"] == 1.0


@pytest.mark.parametrize("swap", [False, True])
def test_intra_fid_detects_swapped_classes(swap):
    """The generator repeats the training images, of the requested class or of the other one.

    Against the other class, the mean over classes is the distance between the classes.
    """
    pixels = IMAGES["train"].images
    labels = np.arange(COUNT, dtype=np.int32) % 2
    pixels = pixels // (labels[:, None, None, None] + 1).astype(np.uint8)  # class 1 is darker
    images = InMemoryImages(pixels, labels, CLASSES)
    evaluator = make_evaluator(intra_class_samples=COUNT // 2)
    evaluator.images = {"train": images, "test": images}
    starts = [0, 0]

    def sample(key, requested):
        label = int(requested[0])
        indices = (starts[label] + np.arange(BATCH_SIZE)) % (COUNT // 2)
        starts[label] += BATCH_SIZE
        members = pixels[labels == (label ^ swap)]
        return GeneratorOutput(jnp.asarray(to_float(members[indices])), (), None)

    features = [to_float(pixels[labels == label]).reshape(COUNT // 2, -1) for label in (0, 1)]
    gaussians = [Gaussian(x.mean(0), np.cov(x.T)) for x in features]
    expected = frechet_distance(*gaussians) if swap else 0.0
    assert np.mean(evaluator._class_distances(sample)) == pytest.approx(expected, abs=1e-4)
    assert expected > 1.0 or not swap


def test_intra_fid_is_a_metric_of_the_test_split_only():
    sample = lambda key, labels: GeneratorOutput(
        jnp.asarray(to_float(IMAGES["train"].images[:BATCH_SIZE])), (), None
    )
    evaluator = make_evaluator(intra_class_samples=10)
    assert "intra_fid" not in evaluator.evaluate(sample, "dev")
    assert not evaluator.has_metric("intra_fid_classifier")
    assert "intra_fid" in evaluator.evaluate(sample, "test")
    with pytest.raises(UserError, match="evaluation.intra_class_samples"):
        make_evaluator(intra_class_samples=1).validate()


def test_metrics_of_the_dev_split_are_known_before_training():
    sample = lambda key, labels: GeneratorOutput(
        jnp.asarray(to_float(IMAGES["train"].images[:BATCH_SIZE])), (), None
    )
    evaluator = make_evaluator()
    evaluator._extractor = FeatureExtractor(pixels, "_classifier", predicts_labels=True)
    metrics = evaluator.evaluate(sample, "dev")
    assert len(metrics) == 6 and all(map(evaluator.has_metric, metrics))
    assert not any(map(evaluator.has_metric, ("fid", "fdi_classifier", "classifier_accuracy")))


def test_references_are_a_sample_of_all_classes(tmp_path):
    """Fewer images are generated than real images exist."""
    for n in range(100):
        path = tmp_path / f"class{n // 20}" / f"{n}.png"
        path.parent.mkdir(exist_ok=True)
        Image.fromarray(np.full((4, 4), n, np.uint8)).save(path)
    evaluator = make_evaluator(samples=32)
    evaluator.images = load("folder", resolution=4, channels=1, dir=str(tmp_path))
    reference = evaluator._reference("train")
    assert len(reference.features) == len(reference.labels) == 32
    for labels in (reference.labels, np.rint((reference.features[:, 0] + 1) * 127.5) // 20):
        assert np.bincount(labels.astype(int), minlength=5).min() > 2
