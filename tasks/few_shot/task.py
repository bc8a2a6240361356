"""Few-shot image classification: N unseen classes with K labeled images each.

Source: Mishra et al. 2018, sec. 5.1. Episodes are sampled on the host from the seed and the step;
images are augmented on the device. The loss is the cross-entropy of the query, the last image.
"""

from collections.abc import Iterator
from functools import cached_property
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx
from jaxtyping import Array
from matplotlib.figure import Figure

from models.snail import FewShotClassifier
from tasks.base import Supervised
from tasks.few_shot import datasets
from tasks.few_shot.augment import random_affine
from tasks.few_shot.episodes import Episodes, sample_episodes, with_shots
from tasks.files import digest
from training import mesh, optimizer
from training.errors import UserError, config_section
from training.state import TrainState


def build(config: Any, workdir: str) -> "FewShotClassification":
    """Build the task.

    Raises:
        UserError: if the images are missing, or a config value is invalid.
    """
    del workdir  # no files are stored
    return FewShotClassification(config)


class FewShotClassification(Supervised):
    """Few-shot classification; see `tasks.base.Task`.

    Metrics: `accuracy_K_shot`, and as a baseline `nearest_neighbor_K_shot`, the accuracy of the
    label of the support image with the smallest Euclidean distance in pixels.
    """

    unit = "episodes"
    splits = ("test",)

    def __init__(self, config: Any):
        super().__init__(optimizer.build(**config.optimizer), config.train.accumulate)
        self.config, data = config, config.data
        self.classes = datasets.load(
            source=data.source, image_size=data.image_size, data_dir=data.data_dir
        )
        if min(data.shots) < 1:
            raise UserError(f"data.shots={data.shots} must be positive.")
        shots = max(data.shots)
        count = min(len(with_shots(classes, shots)) for classes in self.classes.values())
        if not 1 < data.ways <= count:
            raise UserError(
                f"data.ways={data.ways} must be from 2 to {count}, the number of classes with the "
                f"{shots + 1} images that {shots} shots need."
            )
        with config_section("model"):
            self.graphdef = nnx.graphdef(nnx.eval_shape(lambda: self.create(jax.random.key(0))))

    def create(self, key: Array) -> FewShotClassifier:
        """Initialize the model."""
        data = self.config.data
        return FewShotClassifier(
            ways=data.ways,
            size=data.image_size,
            max_length=data.ways * max(data.shots) + 1,
            key=key,
            **self.config.model,
        )

    def data_fingerprint(self) -> dict[str, str]:
        """Return the numbers of training and dev classes, and digests of their images."""
        fingerprints = {}
        for split in ("train", "dev"):
            classes = self.classes[split]
            parts = (f"{len(images)} images".encode() + images.tobytes() for images in classes)
            fingerprints[split] = f"{len(classes):,} classes (digest {digest(parts)})"
        return fingerprints

    def describe(self) -> dict[str, str]:
        """Summarize the numbers of classes and the kind of episode."""
        counts = ", ".join(f"{len(classes):,} {split}" for split, classes in self.classes.items())
        shots = ", ".join(map(str, self.config.data.shots))
        return {
            "data": f"classes of {self.config.data.source}: {counts}",
            "episodes": f"{self.config.data.ways}-way, {shots}-shot",
        }

    # Training.

    def init_params(self, key: Array) -> nnx.State:
        return nnx.state(self.create(key))

    def loss(self, params, batch, key):
        """Return the cross-entropy and the accuracy of the query, summed over episodes."""
        logits, _ = self._classify(params, self._augment(batch, key), batch.labels)
        target = batch.labels[:, -1]
        losses = optax.losses.softmax_cross_entropy_with_integer_labels(logits, target)
        correct = jnp.argmax(logits, axis=-1) == target
        return losses.sum(), jnp.float32(len(target)), {"accuracy": jnp.float32(correct.sum())}

    def _augment(self, batch, key):
        return random_affine(batch.images, key, self.config.data.distortion)

    def _classify(self, params, images, labels):
        return nnx.merge(self.graphdef, params)(images, labels[:, :-1])

    def batches(self, split: str, start_step: int) -> Iterator[Episodes]:
        """Yield batches of episodes; the number of shots is sampled from the configured ones."""
        shots, step = self.config.data.shots, start_step
        while True:
            rng = self._rng(split, step)
            yield self._sample(split, rng, int(shots[rng.integers(len(shots))]))
            step += 1

    def _sample(self, split: str, rng: Any, shots: int) -> Episodes:
        return sample_episodes(
            self.classes[split],
            rng,
            batch=self.config.batch,
            ways=self.config.data.ways,
            shots=shots,
            shuffle_labels=self.config.data.shuffle_labels,
        )

    def _rng(self, split: str, step: int) -> Any:
        """Return the generator of a batch; only training batches depend on the run's seed."""
        seed = self.config.seed if split == "train" else 0
        return np.random.default_rng([seed, sum(split.encode()), step])

    # Evaluation.

    def evaluate(self, state: TrainState, split: str) -> dict[str, float]:
        """Compute the metrics on fixed episodes, with the fewest and with the most shots."""
        metrics: dict[str, float] = {}
        count = max(1, self.config.evaluation.episodes // self.config.batch)
        for shots in dict.fromkeys((min(self.config.data.shots), max(self.config.data.shots))):
            mean = np.zeros(2)
            for n in range(count):
                batch = self._sample(split, self._rng(split, n), shots)
                with mesh.evaluation_mesh(state.params) as shard:
                    accuracies = self._accuracies(state.params, shard(batch), jax.random.key(n))
                mean += jax.device_get(accuracies) / count
            metrics[f"accuracy_{shots}_shot"] = float(mean[0])
            metrics[f"nearest_neighbor_{shots}_shot"] = float(mean[1])
        return metrics

    @cached_property
    def _accuracies(self):
        return jax.jit(self._compute_accuracies)

    def _compute_accuracies(self, params, batch, key):
        """Compute the accuracies of the model and of the nearest neighbor in pixels."""
        target, images = batch.labels[:, -1], self._augment(batch, key)
        predicted = jnp.argmax(self._classify(params, images, batch.labels)[0], axis=-1)
        distances = jnp.sum((images[:, :-1] - images[:, -1:]) ** 2, axis=(2, 3))
        nearest = jnp.argmin(distances, axis=1)
        neighbor = jnp.take_along_axis(batch.labels, nearest[:, None], axis=1)[:, 0]
        return jnp.stack([jnp.mean(predicted == target), jnp.mean(neighbor == target)])

    # Figures.

    def figures(self, state: TrainState) -> dict[str, Figure]:
        """Plot test episodes with labels, attention weights of the query, and predictions."""
        key, shots = jax.random.key(0), min(self.config.data.shots)
        batch = self._sample("test", self._rng("test", 0), shots)
        images = jax.jit(self._augment)(batch, key)
        logits, weights = jax.jit(self._classify)(state.params, images, batch.labels)
        predicted = np.argmax(logits, axis=-1)
        rows, columns = min(6, len(predicted)), images.shape[1]
        figure = Figure(figsize=(1.1 * columns, 1.4 * rows), layout="constrained")
        grid = figure.subplots(rows, columns, squeeze=False)
        for row, panels in enumerate(grid):
            for t, axes in enumerate(panels):
                axes.imshow(images[row, t], cmap="gray_r")
                axes.set(xticks=[], yticks=[])
                title = f"class {batch.labels[row, t]}"
                if t + 1 == columns:
                    title += f", predicted {predicted[row]}"
                elif weights:
                    title += f", {weights[-1][row, -1, t]:.2f}"
                axes.set_title(title, fontsize=7)
        figure.suptitle(
            "support images with the query's weights in the last attention block; last: query",
            fontsize=8,
        )
        return {"episodes": figure}
