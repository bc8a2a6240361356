"""Measures of sets of images, by what a network sees in them: features and class probabilities.

Statistics are sums that grow with the number of images in nothing but their values, in float64.
"""

from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int

NEAREST = 3  # neighbours that `precision_recall` looks at


class Gaussian(NamedTuple):
    """Mean and covariance of features."""

    mean: Float[np.ndarray, " F"]
    covariance: Float[np.ndarray, "F F"]


class FeatureSums:
    """Sums over features, from which mean and covariance follow; batches may come one by one.

    Sums are of differences from the first batch's mean, as squares of large numbers would leave no
    digits for their small differences.
    """

    def __init__(self) -> None:
        self.count = 0

    def add(self, features: Float[np.ndarray, "B F"]) -> None:
        """Takes in a batch."""
        x = np.asarray(features, np.float64)
        if not self.count:
            self.origin = x.mean(0)
            self.first, self.second = np.zeros(x.shape[1]), np.zeros((x.shape[1],) * 2)
        x = x - self.origin
        self.count += len(x)
        self.first += x.sum(0)
        self.second += x.T @ x

    def gaussian(self) -> Gaussian:
        """Mean and unbiased covariance of all that was taken in."""
        mean = self.first / self.count
        covariance = (self.second - self.count * np.outer(mean, mean)) / (self.count - 1)
        return Gaussian(self.origin + mean, covariance)


def frechet_distance(one: Gaussian, other: Gaussian) -> float:
    """`|μ1 - μ2|² + tr(Σ1 + Σ2 - 2 (Σ1 Σ2)^½)`: FID, between two sets' features.

    Source: Heusel et al. 2017, eq. 6. The root's trace is the sum of the roots of the eigenvalues
    of `Σ1^½ Σ2 Σ1^½`, which is symmetric, so nothing comes out complex.
    """
    values, vectors = np.linalg.eigh(one.covariance)
    root = (vectors * np.sqrt(np.maximum(values, 0.0))) @ vectors.T
    product = np.linalg.eigvalsh(root @ other.covariance @ root)
    trace = np.trace(one.covariance) + np.trace(other.covariance)
    shift = one.mean - other.mean
    distance = shift @ shift + trace - 2 * np.sqrt(np.maximum(product, 0.0)).sum()
    return max(float(distance), 0.0)


class InceptionSums:
    """Sums over class probabilities, from which the Inception Score follows.

    Source: Salimans et al. 2016, sec. 4: `exp(E KL(p(y|x) || p(y)))`.
    """

    def __init__(self) -> None:
        self.count, self.negative_entropy = 0, 0.0

    def add(self, logits: Float[np.ndarray, "B N"]) -> None:
        """Takes in a batch."""
        x = np.asarray(logits, np.float64)
        x = x - x.max(1, keepdims=True)
        logs = x - np.log(np.exp(x).sum(1, keepdims=True))
        if not self.count:
            self.marginal = np.zeros(x.shape[1])
        self.count += len(x)
        self.marginal += np.exp(logs).sum(0)
        self.negative_entropy += float((np.exp(logs) * logs).sum())

    def score(self) -> float:
        """Over all images at once: the usual mean over ten parts differs in the first decimal."""
        marginal = self.marginal / self.count
        entropy = -(marginal * np.log(np.maximum(marginal, 1e-300))).sum()
        return float(np.exp(self.negative_entropy / self.count + entropy))


def precision_recall(
    real: Float[np.ndarray, "N F"],
    generated: Float[np.ndarray, "M F"],
    neighbours: int = NEAREST,
) -> tuple[float, float]:
    """Share of what is generated that lies among the real, and the other way round.

    Source: Kynkäänniemi et al. 2019, eq. 1 and 2: x lies among a set if it is at most as far from
    one of its members as that one from its k-th nearest other member.
    """
    return (
        float(_lies_among(generated, real, neighbours).mean()),
        float(_lies_among(real, generated, neighbours).mean()),
    )


def _lies_among(points, members, neighbours):
    radii = np.partition(squares(members, members), neighbours, axis=1)[:, neighbours]
    return (squares(points, members) <= radii).any(1)


def squares(a, b):
    """Squared distances [N, M]; never below zero, as rounding would have it."""
    a, b = np.asarray(a, np.float64), np.asarray(b, np.float64)
    squares = (a * a).sum(1)[:, None] + (b * b).sum(1) - 2 * a @ b.T
    return np.maximum(squares, 0.0)


def within_class_variance(
    features: Float[np.ndarray, "M F"], labels: Int[np.ndarray, " M"]
) -> float:
    """Mean square distance of features from the mean of their class, summed over features."""
    centred = np.asarray(features, np.float64).copy()
    for label in np.unique(labels):
        rows = labels == label
        centred[rows] -= centred[rows].mean(0)
    return float((centred**2).sum(1).mean())
