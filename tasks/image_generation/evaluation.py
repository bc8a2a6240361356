"""How drawn images compare with real ones."""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from models.sagan.networks import Generated
from tasks.image_generation import features
from tasks.image_generation.data.augment import Augment, prepare
from tasks.image_generation.data.images import Images, first_batches, to_float
from tasks.image_generation.metrics import (
    NEAREST,
    FeatureSums,
    Gaussian,
    InceptionSums,
    frechet_distance,
    precision_recall,
    squares,
    within_class_variance,
)
from training.errors import UserError

REAL_SPLIT = {"test": "test"}  # what each split is compared with; others with what is trained on


class Reference(NamedTuple):
    """What is kept of real images.

    Attributes:
        gaussian: of their features.
        kept: features of the first of them.
        labels: the classes of all.
    """

    gaussian: Gaussian
    kept: Float[np.ndarray, "K F"]
    labels: np.ndarray


class Judge:
    """Measures of as many drawn images as real ones, of the same classes.

    - `fid`: Fréchet distance of features, from the images trained on (`train`, `dev`) or from those
      held out (`test`);
    - `inception_score`, `precision`, `recall`;
    - `diversity`: how much features vary within a class, beside those of real images;
    - `class_accuracy`: the share of drawn images that a classifier of real ones assigns to the
      class that was asked for; on the test also `classifier_accuracy`, what it is on real ones.

    The name says so where features are not those of Inception: `fid_classifier`.

    Args:
        images: real ones, `train` and `test`.
        augment: how they are changed in training, and so here.
        workdir: the run's folder, where a classifier is kept.
        conditional: whether a class is asked for.
        samples: how many images are drawn.
        rows: how many at once.
        neighbours_among: how many of them `precision`, `recall` and `diversity` see, which have to
            keep their features.
        inception_weights: file of Inception's weights; '' to train a classifier instead.
        classifier: its sizes, see `tasks.image_generation.features.classifier`.
    """

    def __init__(
        self,
        images: Mapping[str, Images],
        augment: Augment,
        workdir: str,
        conditional: bool,
        *,
        samples: int,
        rows: int,
        neighbours_among: int,
        inception_weights: str,
        classifier: Any,
    ):
        self.images, self.augment, self.conditional = images, augment, conditional
        self.samples, self.rows, self.few = samples, rows, neighbours_among
        self._classifier, self._workdir = dict(classifier), workdir
        self._inception = inception_weights
        self._network: features.Network | None = None
        self._references: dict[str, Reference] = {}

    def open(self) -> None:
        """Makes sure that it can judge, with Inception's weights or without: fails now or never.

        Raises:
            UserError: for weights that are not there, or too few images or classes.
        """
        fewest = min(self.few, self.samples, *map(len, self.images.values()))
        if fewest <= NEAREST:
            raise UserError(
                f"{fewest} images are too few to be judged by their {NEAREST} nearest: raise "
                "evaluation.samples and evaluation.neighbours_among, or add images"
            )
        if self._inception:
            _ = self.network
        elif len(self.images["train"].classes) < 2:
            raise UserError(
                "images without classes cannot be judged by a classifier of theirs: "
                "give the weights of Inception by --config.evaluation.inception_weights=FILE "
                "and --config.train.best=dev/fid"
            )

    def describe(self) -> str:
        """By what is judged, and how many."""
        by = "Inception" if self._inception else "a classifier trained here on the real ones"
        return f"by {by}, {self.samples:,} images"

    @property
    def network(self) -> features.Network:
        """What looks at the images; a classifier is trained at its first use."""
        if self._network is None and self._inception:
            self._network = features.pretrained(self._inception)
        if self._network is None:
            self._network = features.classifier(
                self.images, self.augment, self._workdir, **self._classifier
            )
        return self._network

    def measures(self, draw: Callable[..., Generated], split: str) -> dict[str, float]:
        """Of images from `draw(key, labels)`; the same noise at every call for the same split."""
        reference = self._reference(REAL_SPLIT.get(split, "train"))
        sums, scores, kept, right = FeatureSums(), InceptionSums(), [], 0
        for begin in range(0, self.samples, self.rows):
            labels = np.resize(reference.labels[begin : begin + self.rows], self.rows)
            key = jax.random.fold_in(jax.random.key(sum(split.encode())), begin)
            count = min(self.rows, self.samples - begin)
            seen = self.network.see(draw(key, jnp.asarray(labels)).images)
            found, logits = (np.asarray(x)[:count] for x in seen)
            sums.add(found)
            scores.add(logits)
            if self.network.judges:
                right += int((logits.argmax(-1) == labels[:count]).sum())
            if begin < self.few:
                kept.append(found)
        few = np.concatenate(kept)[: self.few]
        precision, recall = precision_recall(reference.kept, few)
        varied = [
            within_class_variance(x, reference.labels[: len(x)]) for x in (few, reference.kept)
        ]
        named = {
            "fid": frechet_distance(sums.gaussian(), reference.gaussian),
            "inception_score": scores.score(),
            "precision": precision,
            "recall": recall,
            "diversity": varied[0] / varied[1],
        }
        measures = {f"{name}{self.network.suffix}": value for name, value in named.items()}
        if self.network.judges and self.conditional:
            measures["class_accuracy"] = right / self.samples
            if split in REAL_SPLIT:
                measures["classifier_accuracy"] = self.network.accuracy
        return measures

    def nearest(
        self, drawn: Float[np.ndarray, "B R R C"], count: int
    ) -> Float[np.ndarray, "B K R R C"]:
        """For each image the nearest of those trained on, by features: is it more than a copy?"""
        train = self.images["train"]
        asked = np.asarray(self.network.see(jnp.asarray(drawn)).features)
        best = np.full((len(drawn), count), np.inf)
        which = np.zeros((len(drawn), count), np.int64)
        for n, (batch, real) in enumerate(first_batches(train, self.rows, len(train))):
            seen = np.asarray(self.network.see(jnp.asarray(to_float(batch["image"]))).features)[
                :real
            ]
            found = np.concatenate([best, squares(asked, seen)], axis=1)
            index = np.broadcast_to(n * self.rows + np.arange(real), (len(drawn), real))
            known = np.concatenate([which, index], axis=1)
            order = np.argsort(found, axis=1, kind="stable")[:, :count]
            best = np.take_along_axis(found, order, axis=1)
            which = np.take_along_axis(known, order, axis=1)
        images = to_float(np.stack([train[int(i)][0] for i in which.ravel()]))
        return images.reshape(*which.shape, *drawn.shape[1:])

    def _reference(self, split: str) -> Reference:
        """Of real images, changed as in training; from the start again where they are few.

        Features are kept of the first time around alone: of a copy the nearest neighbour is itself.
        """
        if split not in self._references:
            sums, kept, labels = FeatureSums(), [], []
            few = min(self.few, self.samples, len(self.images[split]))
            batches = first_batches(self.images[split], self.rows, self.samples)
            change = jax.jit(lambda images, key: prepare(images, self.augment, key))
            for n, (batch, count) in enumerate(batches):
                key = jax.random.fold_in(jax.random.key(2017), n)
                seen = self.network.see(change(batch["image"], key)).features
                sums.add(np.asarray(seen)[:count])
                labels.append(batch["label"][:count])
                if n * self.rows < few:
                    kept.append(np.asarray(seen)[:count])
            self._references[split] = Reference(
                sums.gaussian(), np.concatenate(kept)[:few], np.concatenate(labels)
            )
        return self._references[split]
