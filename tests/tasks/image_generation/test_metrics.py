"""Measures of images beside closed forms, scipy and loops."""

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


def gaussian(rng, width, rank=None):
    factor = rng.normal(size=(width, rank or width))
    return Gaussian(rng.normal(size=width), factor @ factor.T)


def test_the_distance_of_gaussians_along_the_axes_is_the_closed_form():
    """Sum of squares of the differences of means and of standard deviations."""
    mean, spread = np.array([[1.0, -2.0, 0.5], [0.0, 1.0, 0.5]]), np.array([[1, 2, 3], [2, 0.5, 3]])
    one, other = (Gaussian(m, np.diag(s**2)) for m, s in zip(mean, spread, strict=True))
    expected = ((mean[0] - mean[1]) ** 2).sum() + ((spread[0] - spread[1]) ** 2).sum()
    assert frechet_distance(one, other) == pytest.approx(expected, rel=1e-12)
    assert frechet_distance(one, one) == pytest.approx(0.0, abs=1e-12)


def test_the_distance_is_that_of_the_matrix_root_of_scipy():
    rng = np.random.default_rng(0)
    one, other = gaussian(rng, 12), gaussian(rng, 12)
    root = scipy.linalg.sqrtm(one.covariance @ other.covariance).real
    expected = ((one.mean - other.mean) ** 2).sum()
    expected += np.trace(one.covariance + other.covariance - 2 * root)
    assert frechet_distance(one, other) == pytest.approx(expected, rel=1e-6)
    assert frechet_distance(other, one) == pytest.approx(expected, rel=1e-6)


def test_fewer_images_than_features_are_no_difficulty():
    """Both covariances singular, where a general matrix root turns complex."""
    rng = np.random.default_rng(1)
    one, other = gaussian(rng, 20, rank=3), gaussian(rng, 20, rank=4)
    assert np.isfinite(frechet_distance(one, other))
    assert frechet_distance(one, one) == pytest.approx(0.0, abs=1e-6)


def test_sums_over_batches_are_mean_and_covariance_of_the_whole():
    """Also far from zero, where sums of squares alone would leave few digits."""
    x = np.random.default_rng(2).normal(size=(103, 5)).astype(np.float32) + 1000
    sums = FeatureSums()
    for begin in (0, 7, 50):
        sums.add(x[begin : {0: 7, 7: 50, 50: 103}[begin]])
    found = sums.gaussian()
    np.testing.assert_allclose(found.mean, x.astype(np.float64).mean(0), rtol=1e-12)
    np.testing.assert_allclose(found.covariance, np.cov(x.astype(np.float64).T), rtol=1e-8)


def test_the_inception_score_lies_between_one_and_the_number_of_classes():
    def score(*batches):
        sums = InceptionSums()
        for logits in batches:
            sums.add(logits)
        return sums.score()

    sure = 100 * np.eye(4)
    assert score(sure[:2], sure[2:]) == pytest.approx(4.0)
    assert score(sure[:1], sure[:1]) == pytest.approx(1.0)
    assert score(np.zeros((5, 4))) == pytest.approx(1.0)
    rng = np.random.default_rng(3)
    logits = rng.normal(size=(30, 6))
    p = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    expected = np.exp(np.mean(np.sum(p * np.log(p / p.mean(0)), 1)))
    assert score(logits[:11], logits[11:]) == pytest.approx(expected, rel=1e-12)


def test_precision_and_recall_are_those_of_a_loop():
    rng = np.random.default_rng(4)
    real, fake = rng.normal(size=(40, 3)), 1.5 * rng.normal(size=(30, 3)) + 0.5

    def share(points, members):
        inside = 0
        for point in points:
            for member in members:
                others = sorted(np.linalg.norm(members - member, axis=1))
                inside += np.linalg.norm(point - member) <= others[3] + 1e-12
                if np.linalg.norm(point - member) <= others[3] + 1e-12:
                    inside += 0
                    break
        return inside / len(points)

    assert precision_recall(real, fake) == pytest.approx((share(fake, real), share(real, fake)))
    assert precision_recall(real, real) == (1.0, 1.0)
    assert precision_recall(real, fake + 100) == (0.0, 0.0)


def test_a_collapsed_class_has_no_variance_within():
    rng = np.random.default_rng(5)
    labels = np.repeat([0, 1], 50)
    features = rng.normal(size=(100, 3)) + 100 * labels[:, None]
    spread = sum(features[labels == c].var(0).sum() for c in (0, 1)) / 2
    assert within_class_variance(features, labels) == pytest.approx(spread)
    means = np.stack([features[labels == c].mean(0) for c in labels]).astype(np.float64)
    assert within_class_variance(means, labels) == pytest.approx(0.0, abs=1e-12)
