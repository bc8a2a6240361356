"""Comparison of generated with real images."""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float, Int

from models.sagan import GeneratorOutput
from tasks.image_generation import feature_extractors
from tasks.image_generation.data.augment import Augmentation, preprocess
from tasks.image_generation.data.batching import sequential_batches, to_float
from tasks.image_generation.data.sources import ImageSource
from tasks.image_generation.metrics import (
    NEAREST,
    FeatureSums,
    Gaussian,
    InceptionSums,
    frechet_distance,
    precision_recall,
    squared_distances,
    within_class_variance,
)
from training.errors import UserError

REFERENCE_SPLITS = {"train": "train", "dev": "train", "test": "test"}  # real images by split


class Reference(NamedTuple):
    """Statistics of real images.

    Attributes:
        gaussian: mean and covariance of the features.
        features: features of the first images, each image once.
        labels: classes of all images.
    """

    gaussian: Gaussian
    features: Float[np.ndarray, "K F"]
    labels: Int[np.ndarray, " M"]


class Evaluator:
    """Computes the metrics of generated images, compared with real images of the same classes.

    - `fid`: Fréchet distance between the features of generated images and of the training images
      (splits `train` and `dev`) or the test images (`test`);
    - `inception_score`, `precision`, `recall`;
    - `diversity`: within-class variance of the features, divided by the variance for real images;
      omitted if the latter is zero, as with one image per class;
    - `intra_fid`, for `test` and conditional generators only: mean over classes of the Fréchet
      distance between generated images and the training images of the class (Miyato & Koyama 2018);
      the features of all training images are held in memory, 10 GiB for ImageNet;
    - `class_accuracy`: share of generated images that a classifier of the real images assigns to
      the class they are conditioned on; for `test` also `classifier_accuracy`, its accuracy on the
      real test images.

    Metrics from other features than Inception's have a suffix: `fid_classifier`.

    Args:
        images: real images, `train` and `test`.
        augmentation: augmentation in training, which is also applied to the real images here.
        workdir: run directory, where the classifier is stored.
        conditional: whether images are conditioned on a class.
        samples: number of generated images.
        batch: number of images per batch.
        neighbor_samples: number of images for `precision`, `recall` and `diversity`, whose features
            are held in memory.
        inception_weights: file of Inception's weights; '' to train a classifier instead.
        classifier: sizes of the classifier, see `feature_extractors.load_classifier`.
        intra_class_samples: number of generated images per class for `intra_fid`; 0 to omit it.
    """

    def __init__(
        self,
        images: Mapping[str, ImageSource],
        augmentation: Augmentation,
        workdir: str,
        conditional: bool,
        *,
        samples: int,
        batch: int,
        neighbor_samples: int,
        inception_weights: str,
        classifier: Any,
        intra_class_samples: int,
    ):
        self.images, self.augmentation, self.conditional = images, augmentation, conditional
        self.samples, self.batch_size = samples, batch
        self.neighbor_samples = neighbor_samples
        self._intra_class_samples = intra_class_samples if conditional else 0
        self._classifier, self._workdir = dict(classifier), workdir
        self._inception_weights = inception_weights
        self._extractor: feature_extractors.FeatureExtractor | None = None
        self._references: dict[str, Reference] = {}

    def validate(self) -> None:
        """Check before training that the evaluation is possible.

        Raises:
            UserError: for missing weights, or too few images or classes.
        """
        fewest = min(self.neighbor_samples, self.samples, *map(len, self.images.values()))
        if fewest <= NEAREST:
            raise UserError(
                f"Precision and recall need more than {NEAREST} images, not {fewest}: raise "
                "evaluation.samples and evaluation.neighbor_samples, or add images."
            )
        if self._intra_class_samples == 1:
            raise UserError(
                "A class needs at least two generated images for intra_fid, not one: raise "
                "evaluation.intra_class_samples, or set it to 0 to omit intra_fid."
            )
        if self._inception_weights:
            _ = self.extractor
        elif len(self.images["train"].classes) < 2:
            raise UserError(
                "A dataset without classes cannot be evaluated by a classifier: set "
                "--config.evaluation.inception_weights=FILE and --config.train.best=dev/fid."
            )

    def has_metric(self, name: str) -> bool:
        """Return whether the dev split may have a metric of the configured features."""
        names = {"fid", "inception_score", "precision", "recall", "diversity"}
        if self._inception_weights:
            return name in names
        if name == "class_accuracy":
            return self.conditional
        return name in {f"{x}{feature_extractors.CLASSIFIER_SUFFIX}" for x in names}

    def describe(self) -> str:
        """Summarize the features and the number of images."""
        name = "Inception" if self._inception_weights else "a classifier of the real images"
        return f"from features of {name}, for {self.samples:,} generated images"

    @property
    def extractor(self) -> feature_extractors.FeatureExtractor:
        """Feature extractor; a classifier is trained at the first access."""
        if self._extractor is None and self._inception_weights:
            self._extractor = feature_extractors.load_inception(self._inception_weights)
        if self._extractor is None:
            self._extractor = feature_extractors.load_classifier(
                self.images, self.augmentation, self._workdir, **self._classifier
            )
        return self._extractor

    def evaluate(self, sample: Callable[..., GeneratorOutput], split: str) -> dict[str, float]:
        """Compute the metrics of images from `sample(key, labels)`, with fixed keys per split."""
        reference = self._reference(REFERENCE_SPLITS[split])
        sums, scores, kept, correct = FeatureSums(), InceptionSums(), [], 0
        for start in range(0, self.samples, self.batch_size):
            labels = np.resize(reference.labels[start : start + self.batch_size], self.batch_size)
            key = jax.random.fold_in(jax.random.key(sum(split.encode())), start)
            count = min(self.batch_size, self.samples - start)
            output = self.extractor.apply(sample(key, jnp.asarray(labels)).images)
            features, logits = (np.asarray(x)[:count] for x in output)
            sums.add(features)
            scores.add(logits)
            if self.extractor.predicts_labels:
                correct += int((logits.argmax(-1) == labels[:count]).sum())
            if start < self.neighbor_samples:
                kept.append(features)
        features = np.concatenate(kept)[: self.neighbor_samples]
        precision, recall = precision_recall(reference.features, features)
        variance, real_variance = (
            within_class_variance(x, reference.labels[: len(x)])
            for x in (features, reference.features)
        )
        values = {
            "fid": frechet_distance(sums.gaussian(), reference.gaussian),
            "inception_score": scores.score(),
            "precision": precision,
            "recall": recall,
        }
        if real_variance:  # zero for one image per class
            values["diversity"] = variance / real_variance
        if split == "test" and (distances := self._class_distances(sample)):
            values["intra_fid"] = float(np.mean(distances))
        metrics = {f"{name}{self.extractor.suffix}": value for name, value in values.items()}
        if self.extractor.predicts_labels and self.conditional:
            metrics["class_accuracy"] = correct / self.samples
            if split == "test":
                metrics["classifier_accuracy"] = self.extractor.accuracy
        return metrics

    def _class_distances(self, sample) -> list[float]:
        """Return the Fréchet distance of each class with at least two training images."""
        if not self._intra_class_samples:
            return []
        size, features = self.batch_size, dict[int, list]()
        for real, labels in self._real_features("train", len(self.images["train"]), seed=2018):
            for label, x in zip(labels.tolist(), real, strict=True):
                features.setdefault(label, []).append(x)
        distances = []
        for label, members in sorted(features.items()):
            if len(members) < 2:
                continue
            real_sums, sums = FeatureSums(), FeatureSums()
            real_sums.add(np.stack(members))
            class_key = jax.random.fold_in(jax.random.key(2020), label)
            for start in range(0, self._intra_class_samples, size):
                key = jax.random.fold_in(class_key, start)
                images = sample(key, jnp.full(size, label, jnp.int32)).images
                sums.add(self._features(images)[: self._intra_class_samples - start])
            distances.append(frechet_distance(sums.gaussian(), real_sums.gaussian()))
        return distances

    def nearest(
        self, generated: Float[np.ndarray, "B R R C"], count: int
    ) -> Float[np.ndarray, "B K R R C"]:
        """Return the nearest training images of each image by features, to detect memorization."""
        train = self.images["train"]
        queries = self._features(generated)
        best = np.full((len(generated), count), np.inf)
        indices = np.zeros((len(generated), count), np.int64)
        for n, (batch, size) in enumerate(sequential_batches(train, self.batch_size, len(train))):
            features = self._features(to_float(batch["image"]))[:size]
            distances = np.concatenate([best, squared_distances(queries, features)], axis=1)
            new = np.broadcast_to(n * self.batch_size + np.arange(size), (len(generated), size))
            candidates = np.concatenate([indices, new], axis=1)
            order = np.argsort(distances, axis=1, kind="stable")[:, :count]
            best = np.take_along_axis(distances, order, axis=1)
            indices = np.take_along_axis(candidates, order, axis=1)
        images = to_float(np.stack([train[int(i)][0] for i in indices.ravel()]))
        return images.reshape(*indices.shape, *generated.shape[1:])

    def _real_features(self, split, count, seed):
        """Yield features and labels of the first `count` augmented real images, batch by batch."""
        augment = jax.jit(lambda images, key: preprocess(images, self.augmentation, key))
        batches = sequential_batches(self.images[split], self.batch_size, count)
        for n, (batch, size) in enumerate(batches):
            key = jax.random.fold_in(jax.random.key(seed), n)
            features = self._features(augment(batch["image"], key))
            yield features[:size], batch["label"][:size]

    def _features(self, images):
        return np.asarray(self.extractor.apply(jnp.asarray(images)).features)

    def _reference(self, split: str) -> Reference:
        """Compute the statistics of the augmented real images, which are repeated if too few.

        Features of repetitions are not kept, because an image would be its own nearest neighbor.
        """
        if split not in self._references:
            sums, kept, labels = FeatureSums(), [], []
            keep = min(self.neighbor_samples, self.samples, len(self.images[split]))
            batches = self._real_features(split, self.samples, seed=2017)
            for n, (features, batch_labels) in enumerate(batches):
                sums.add(features)
                labels.append(batch_labels)
                if n * self.batch_size < keep:
                    kept.append(features)
            self._references[split] = Reference(
                sums.gaussian(), np.concatenate(kept)[:keep], np.concatenate(labels)
            )
        return self._references[split]
