"""Metrics of image sets, computed from the features and class probabilities of a network.

The Fréchet distance and the Inception Score are accumulated over batches, in float64 and in memory
that does not depend on the number of images.
"""

from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int

NEAREST = 3  # k of the k-th nearest neighbor in `precision_recall`


class Gaussian(NamedTuple):
    """Mean and covariance of features."""

    mean: Float[np.ndarray, " F"]
    covariance: Float[np.ndarray, "F F"]


class FeatureSums:
    """Accumulates the mean and the covariance of features.

    The mean of the first batch is subtracted from all features, because the difference of large
    sums of squares would lose precision.
    """

    def __init__(self) -> None:
        self.count = 0

    def add(self, features: Float[np.ndarray, "B F"]) -> None:
        """Add a batch."""
        x = np.asarray(features, np.float64)
        if not self.count:
            self.origin = x.mean(0)
            self.first, self.second = np.zeros(x.shape[1]), np.zeros((x.shape[1],) * 2)
        x = x - self.origin
        self.count += len(x)
        self.first += x.sum(0)
        self.second += x.T @ x

    def gaussian(self) -> Gaussian:
        """Return the mean and the unbiased covariance of all batches."""
        mean = self.first / self.count
        covariance = (self.second - self.count * np.outer(mean, mean)) / (self.count - 1)
        return Gaussian(self.origin + mean, covariance)


def frechet_distance(a: Gaussian, b: Gaussian) -> float:
    """`|μ1 - μ2|² + tr(Σ1 + Σ2 - 2 (Σ1 Σ2)^½)`, the FID of two sets of features.

    Source: Heusel et al. 2017, eq. 6. The trace of the root is the sum of the square roots of the
    eigenvalues of `Σ1^½ Σ2 Σ1^½`, which is symmetric, so all of them are real.
    """
    values, vectors = np.linalg.eigh(a.covariance)
    root = (vectors * np.sqrt(np.maximum(values, 0.0))) @ vectors.T
    eigenvalues = np.linalg.eigvalsh(root @ b.covariance @ root)
    trace = np.trace(a.covariance) + np.trace(b.covariance)
    shift = a.mean - b.mean
    distance = shift @ shift + trace - 2 * np.sqrt(np.maximum(eigenvalues, 0.0)).sum()
    return max(float(distance), 0.0)


class InceptionSums:
    """Accumulates the Inception Score, `exp(E KL(p(y|x) || p(y)))`.

    Source: Salimans et al. 2016, sec. 4.
    """

    def __init__(self) -> None:
        self.count, self.negative_entropy = 0, 0.0

    def add(self, logits: Float[np.ndarray, "B N"]) -> None:
        """Add a batch."""
        x = np.asarray(logits, np.float64)
        x = x - x.max(1, keepdims=True)
        log_probs = x - np.log(np.exp(x).sum(1, keepdims=True))
        if not self.count:
            self.marginal = np.zeros(x.shape[1])
        self.count += len(x)
        self.marginal += np.exp(log_probs).sum(0)
        self.negative_entropy += float((np.exp(log_probs) * log_probs).sum())

    def score(self) -> float:
        """Return the score of all images.

        Published scores are usually means over ten subsets, which differ in the first decimal.
        """
        marginal = self.marginal / self.count
        entropy = -(marginal * np.log(np.maximum(marginal, 1e-300))).sum()
        return float(np.exp(self.negative_entropy / self.count + entropy))


def precision_recall(
    real: Float[np.ndarray, "N F"],
    generated: Float[np.ndarray, "M F"],
    nearest: int = NEAREST,
) -> tuple[float, float]:
    """Improved precision and recall (Kynkäänniemi et al. 2019, eq. 1 and 2).

    Precision is the fraction of generated images inside the manifold of the real images. Recall is
    the fraction of real images inside the manifold of the generated images. The manifold of a set
    is the union of the balls around its members up to their `nearest`-th nearest neighbor in the
    set.
    """
    return (
        float(_in_manifold(generated, real, nearest).mean()),
        float(_in_manifold(real, generated, nearest).mean()),
    )


def _in_manifold(points, members, nearest):
    distances = squared_distances(members, members)
    radii = np.partition(distances, nearest, axis=1)[:, nearest]  # index 0 is the member itself
    return (squared_distances(points, members) <= radii).any(1)


def squared_distances(a, b):
    """Squared Euclidean distances `[N, M]`, clipped at zero against rounding errors."""
    a, b = np.asarray(a, np.float64), np.asarray(b, np.float64)
    distances = (a * a).sum(1)[:, None] + (b * b).sum(1) - 2 * a @ b.T
    return np.maximum(distances, 0.0)


def within_class_variance(
    features: Float[np.ndarray, "M F"], labels: Int[np.ndarray, " M"]
) -> float:
    """Mean squared distance of the features from the mean of their class."""
    centered = np.asarray(features, np.float64).copy()
    for label in np.unique(labels):
        members = labels == label
        centered[members] -= centered[members].mean(0)
    return float((centered**2).sum(1).mean())
