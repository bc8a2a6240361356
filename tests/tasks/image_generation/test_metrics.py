"""Tests of `tasks.image_generation.metrics` against closed forms, SciPy and loops."""

import numpy as np
import pytest
import scipy.linalg

from tasks.image_generation.metrics import (
    FeatureSums,
    Gaussian,
    InceptionSums,
    frechet_distance,
    precision_recall,
    within_class_variance,
)


def random_gaussian(rng, width, rank=None):
    factor = rng.normal(size=(width, rank or width))
    return Gaussian(rng.normal(size=width), factor @ factor.T)


def test_frechet_distance_of_diagonal_gaussians_equals_closed_form():
    """The distance is the sum of squared differences of means and of standard deviations."""
    mean = np.array([[1.0, -2.0, 0.5], [0.0, 1.0, 0.5]])
    deviation = np.array([[1, 2, 3], [2, 0.5, 3]])
    a, b = (Gaussian(m, np.diag(s**2)) for m, s in zip(mean, deviation, strict=True))
    expected = ((mean[0] - mean[1]) ** 2).sum() + ((deviation[0] - deviation[1]) ** 2).sum()
    assert frechet_distance(a, b) == pytest.approx(expected, rel=1e-12)
    assert frechet_distance(a, a) == pytest.approx(0.0, abs=1e-12)


def test_frechet_distance_equals_scipy_matrix_square_root():
    rng = np.random.default_rng(0)
    a, b = random_gaussian(rng, 12), random_gaussian(rng, 12)
    root = scipy.linalg.sqrtm(a.covariance @ b.covariance).real
    expected = ((a.mean - b.mean) ** 2).sum()
    expected += np.trace(a.covariance + b.covariance - 2 * root)
    assert frechet_distance(a, b) == pytest.approx(expected, rel=1e-6)
    assert frechet_distance(b, a) == pytest.approx(expected, rel=1e-6)


def test_frechet_distance_of_singular_covariances_is_finite():
    """With fewer images than features, a general matrix square root becomes complex."""
    rng = np.random.default_rng(1)
    a, b = random_gaussian(rng, 20, rank=3), random_gaussian(rng, 20, rank=4)
    assert np.isfinite(frechet_distance(a, b))
    assert frechet_distance(a, a) == pytest.approx(0.0, abs=1e-6)


def test_feature_sums_over_batches_equal_numpy():
    """The mean is large, so that plain sums of squares would lose precision."""
    x = np.random.default_rng(2).normal(size=(103, 5)).astype(np.float32) + 1000
    sums = FeatureSums()
    for batch in (x[:7], x[7:50], x[50:]):
        sums.add(batch)
    gaussian = sums.gaussian()
    np.testing.assert_allclose(gaussian.mean, x.astype(np.float64).mean(0), rtol=1e-12)
    np.testing.assert_allclose(gaussian.covariance, np.cov(x.astype(np.float64).T), rtol=1e-8)


def test_inception_score_over_batches_equals_its_definition():
    def score(*batches):
        sums = InceptionSums()
        for logits in batches:
            sums.add(logits)
        return sums.score()

    certain = 100 * np.eye(4)
    assert score(certain[:2], certain[2:]) == pytest.approx(4.0)  # the number of classes
    assert score(certain[:1], certain[:1]) == pytest.approx(1.0)
    assert score(np.zeros((5, 4))) == pytest.approx(1.0)
    rng = np.random.default_rng(3)
    logits = rng.normal(size=(30, 6))
    p = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    expected = np.exp(np.mean(np.sum(p * np.log(p / p.mean(0)), 1)))
    assert score(logits[:11], logits[11:]) == pytest.approx(expected, rel=1e-12)


def test_precision_and_recall_equal_a_loop():
    rng = np.random.default_rng(4)
    real, generated = rng.normal(size=(40, 3)), 1.5 * rng.normal(size=(30, 3)) + 0.5

    def in_manifold(point, members):
        for member in members:
            radius = sorted(np.linalg.norm(members - member, axis=1))[3]
            if np.linalg.norm(point - member) <= radius + 1e-12:
                return True
        return False

    expected = (
        np.mean([in_manifold(point, real) for point in generated]),
        np.mean([in_manifold(point, generated) for point in real]),
    )
    assert precision_recall(real, generated) == pytest.approx(expected)
    assert precision_recall(real, real) == (1.0, 1.0)
    assert precision_recall(real, generated + 100) == (0.0, 0.0)


def test_within_class_variance_equals_numpy_and_is_zero_for_collapsed_classes():
    rng = np.random.default_rng(5)
    labels = np.repeat([0, 1], 50)
    features = rng.normal(size=(100, 3)) + 100 * labels[:, None]
    expected = sum(features[labels == c].var(0).sum() for c in (0, 1)) / 2
    assert within_class_variance(features, labels) == pytest.approx(expected)
    means = np.stack([features[labels == c].mean(0) for c in labels]).astype(np.float64)
    assert within_class_variance(means, labels) == pytest.approx(0.0, abs=1e-12)
