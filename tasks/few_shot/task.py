"""Few-shot image classification: N unseen classes with K labeled images each.

Source: Mishra et al. 2018, sec. 5.1. Episodes are sampled on the host from the seed and the step;
images are augmented on the device. The loss is the cross-entropy of the queries.
"""

import math
import re
from collections.abc import Callable, Iterator, Mapping
from functools import cached_property
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx
from jaxtyping import Array, Float
from matplotlib.figure import Figure

from models.snail import FewShotClassifier
from tasks.attention_maps import AttentionMap, Images
from tasks.base import Supervised
from tasks.few_shot import datasets, omniglot
from tasks.few_shot.augment import random_affine
from tasks.few_shot.episodes import Episodes, sample_episodes, with_shots
from tasks.files import digest
from training import mesh, optimizer
from training.errors import UserError, config_section
from training.state import TrainState

MAX_ROWS = 6  # episodes whose attention is shown
# Number of episodes per evaluation batch. Independent of `config.batch`, so that all runs are
# evaluated on the same episodes.
EVALUATION_BATCH = 64
NORMAL_QUANTILE = 1.96  # of a two-sided 95% interval


def build(config: Any, workdir: str) -> "FewShotClassification":
    """Build the task.

    Raises:
        UserError: if the images are missing, or a config value is invalid.
    """
    task = build_abstract(config, workdir)
    task.validate()
    return task


def build_abstract(config: Any, workdir: str) -> "FewShotClassification":
    """Build the task without reading images."""
    del workdir  # no files are stored
    return FewShotClassification(config)


class FewShotClassification(Supervised):
    """Few-shot classification; see `tasks.base.Task`.

    Metrics: `accuracy_K_shot`, and as a baseline `nearest_neighbor_K_shot`, the accuracy of the
    label of the support image with the smallest Euclidean distance in pixels. If the data has
    one-shot runs: `one_shot_error` of the runs, and the errors of the baselines,
    `one_shot_error_nearest_neighbor` and `one_shot_error_hausdorff`. A metric with the suffix
    `_ci95` is the half width of the 95% confidence interval over episodes or runs.
    """

    unit, independent_examples = "episodes", True
    splits = ("test",)

    def __init__(self, config: Any):
        super().__init__(optimizer.build(**config.optimizer), config.train.accumulate)
        self.config = config
        if min(config.data.shots) < 1 or config.data.queries < 1:
            key = "shots" if min(config.data.shots) < 1 else "queries"
            raise UserError(f"data.{key}={config.data[key]} must be positive.")
        with config_section("model"):
            self.graphdef = nnx.graphdef(nnx.eval_shape(lambda: self.create(jax.random.key(0))))

    @cached_property
    def classes(self) -> Mapping[str, datasets.Classes]:
        """Images by class, for each split."""
        data = self.config.data
        return datasets.load(source=data.source, image_size=data.image_size, data_dir=data.data_dir)

    @cached_property
    def runs(self) -> omniglot.OneShotRuns | None:
        """One-shot runs of Omniglot, if the data has them and the episodes have their form."""
        data = self.config.data
        if data.ways != omniglot.RUN_WAYS or 1 not in data.shots:
            return None
        return datasets.load_runs(
            source=data.source, image_size=data.image_size, data_dir=data.data_dir
        )

    def validate(self) -> None:
        """Read the images, and check that the episodes can be sampled.

        Raises:
            UserError: if the images are missing, or there are too few of them.
        """
        ways, shots = self.config.data.ways, max(self.config.data.shots)
        count = min(len(with_shots(classes, shots)) for classes in self.classes.values())
        if not 1 < ways <= count:
            raise UserError(
                f"data.ways={ways} must be from 2 to {count}, the number of classes with the "
                f"{shots + 1} images that {shots} shots need."
            )
        if "test" not in self.classes and self.runs is None:
            raise UserError(
                f"{self.config.data.source} is tested on the one-shot runs: add "
                f"{omniglot.RUNS_ARCHIVE}.zip from {omniglot.SOURCE} to data.data_dir, and set "
                f"data.ways={omniglot.RUN_WAYS} and one of data.shots to 1."
            )

    def create(self, key: Array) -> FewShotClassifier:
        """Initialize the model."""
        data = self.config.data
        return FewShotClassifier(
            ways=data.ways,
            size=data.image_size,
            channels=datasets.channels(data.source),
            max_length=data.ways * max(data.shots) + 1,
            key=key,
            **self.config.model,
        )

    def largest_batch(self) -> Episodes:
        """Return the shapes of a batch with the most shots."""
        data = self.config.data
        support = data.ways * max(data.shots)
        image = data.image_size, data.image_size, datasets.channels(data.source)
        shape: Callable[..., Any] = jax.ShapeDtypeStruct
        return Episodes(
            shape((self.config.batch, support + data.queries, *image), jnp.uint8),
            shape((self.config.batch, support), jnp.int32),
            shape((self.config.batch, data.queries), jnp.int32),
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
        rows = {
            "data": f"classes of {self.config.data.source}: {counts}",
            "episodes": f"{self.config.data.ways}-way, {shots}-shot",
        }
        if self.runs is not None:
            trials = self.runs.labels[:, omniglot.RUN_WAYS :].size
            rows["one-shot runs"] = f"{len(self.runs.labels)}, with {trials} trials"
        return rows

    # Training.

    def init_params(self, key: Array) -> nnx.State:
        return nnx.state(self.create(key))

    def loss(self, params, batch, key):
        """Return the cross-entropy and the accuracy of the queries, summed over episodes."""
        distortion_key, dropout_key = jax.random.split(key)
        images = random_affine(batch.images, distortion_key, self.config.data.distortion)
        logits, _ = self._classify(params, images, batch.labels, dropout_key)
        losses = optax.losses.softmax_cross_entropy_with_integer_labels(logits, batch.targets)
        correct = jnp.mean(jnp.argmax(logits, axis=-1) == batch.targets, axis=1)
        return losses.mean(1).sum(), jnp.float32(len(losses)), {"accuracy": correct.sum()}

    def _classify(self, params, images, labels, dropout_key=None):
        return nnx.merge(self.graphdef, params)(images, labels, dropout_key)

    def batches(self, split: str, start_step: int) -> Iterator[Episodes]:
        """Yield batches of episodes; the number of shots is sampled from the configured ones."""
        shots, step = self.config.data.shots, start_step
        while True:
            rng = self._rng(split, step)
            count = int(shots[rng.integers(len(shots))])
            yield self._sample(split, rng, count, self.config.batch)
            step += 1

    def _sample(self, split: str, rng: Any, shots: int, batch: int) -> Episodes:
        return sample_episodes(
            self.classes[split],
            rng,
            batch=batch,
            ways=self.config.data.ways,
            shots=shots,
            queries=self.config.data.queries,
            shuffle_labels=self.config.data.shuffle_labels,
        )

    def _rng(self, split: str, step: int) -> Any:
        """Return the generator of a batch; only training batches depend on the run's seed."""
        seed = self.config.seed if split == "train" else 0
        return np.random.default_rng([seed, sum(split.encode()), step])

    # Evaluation.

    def has_metric(self, name: str) -> bool:
        """Return whether the dev split has a metric; see `evaluate`."""
        shots = "|".join(map(str, self._evaluated_shots))
        pattern = rf"accuracy_({shots})_shot(_ci95)?|nearest_neighbor_({shots})_shot"
        return "dev" in self.classes and re.fullmatch(pattern, name) is not None

    @property
    def _evaluated_shots(self) -> tuple[int, ...]:
        shots = self.config.data.shots
        return tuple(dict.fromkeys((min(shots), max(shots))))

    def evaluate(self, state: TrainState, split: str) -> dict[str, float]:
        """Compute the metrics on fixed episodes, with the fewest and with the most shots."""
        metrics: dict[str, float] = {}
        episodes = self.config.evaluation.episodes
        size = min(episodes, EVALUATION_BATCH)
        for shots in self._evaluated_shots if split in self.classes else ():
            batches = [
                self._correct(
                    state.params, self._sample(split, self._rng(split, n), shots, size), n
                )
                for n in range(math.ceil(episodes / size))
            ]
            model, neighbor = np.concatenate(batches, axis=1)[:, :episodes]
            metrics |= mean_and_interval(f"accuracy_{shots}_shot", model)
            metrics[f"nearest_neighbor_{shots}_shot"] = float(neighbor.mean())
        if split == "test" and self.runs is not None:
            model, neighbor = 1 - self._correct(state.params, self.runs.episodes(), 0)
            metrics |= mean_and_interval("one_shot_error", model)
            metrics["one_shot_error_nearest_neighbor"] = float(neighbor.mean())
            metrics["one_shot_error_hausdorff"] = self._hausdorff_error
        return metrics

    def _correct(self, params, episodes: Episodes, n: int) -> Float[np.ndarray, "2 B"]:
        """Accuracies of the model and of the nearest neighbor in each episode of batch n."""
        with mesh.evaluation_mesh(params) as shard:
            return jax.device_get(self._accuracies(params, shard(episodes), jax.random.key(n)))

    @cached_property
    def _hausdorff_error(self):
        assert self.runs is not None  # `evaluate` needs it for the runs only
        return float(omniglot.hausdorff_errors(self.runs).mean())

    @cached_property
    def _accuracies(self):
        return jax.jit(self._compute_accuracies)

    def _compute_accuracies(self, params, batch, key):
        """Compute `_correct` on the device."""
        images = random_affine(batch.images, key, self.config.evaluation.distortion)
        predicted = jnp.argmax(self._classify(params, images, batch.labels)[0], axis=-1)
        support, queries = jnp.split(images, [batch.labels.shape[1]], axis=1)
        distances = jnp.sum((queries[:, :, None] - support[:, None]) ** 2, axis=(3, 4, 5))
        nearest = jnp.argmin(distances, axis=2)
        neighbor = jnp.take_along_axis(batch.labels, nearest, axis=1)
        correct = jnp.stack([predicted, neighbor]) == batch.targets
        return jnp.mean(correct, axis=-1)

    # Figures.

    def figures(self, state: TrainState) -> dict[str, Figure]:
        """Plot episodes with labels, attention weights of a query, and its prediction."""
        images, batch, predicted, weights = self._classify_examples(state)
        support = batch.labels.shape[1]
        rows, columns = len(predicted), support + 1
        figure = Figure(figsize=(1.1 * columns, 1.4 * rows), layout="constrained")
        grid = figure.subplots(rows, columns, squeeze=False)
        for row, panels in enumerate(grid):
            for t, axes in enumerate(panels):
                axes.imshow(images[row, t], cmap="gray_r")
                axes.set(xticks=[], yticks=[])
                if t == support:
                    title = f"class {batch.targets[row, 0]}, predicted {predicted[row]}"
                else:
                    title = f"class {batch.labels[row, t]}"
                    if weights:
                        title += f", {weights[-1][row, -1, t]:.2f}"
                axes.set_title(title, fontsize=7)
        figure.suptitle(
            "support images with the query's weights in the last attention block; last: query",
            fontsize=8,
        )
        return {"episodes": figure}

    def attention_maps(self, state: TrainState, inputs: Any = None) -> list[AttentionMap]:
        """Return the weights of all attention blocks for a query of each of a few episodes."""
        del inputs
        images, batch, predicted, weights = self._classify_examples(state)
        shades = np.clip(images if images.shape[-1] == 3 else 1 - images, 0, 1)  # dark ink
        pixels, maps = np.rint(255 * shades).astype(np.uint8), []
        for n, prediction in enumerate(predicted if weights else ()):
            labels = [*(f"class {c}" for c in batch.labels[n]), "query"]
            axis = Images("images", labels, pixels[n, : len(labels)])
            layers = np.stack([layer[n][None] for layer in weights])
            title = f"episode {n + 1}: class {batch.targets[n, 0]}, predicted {prediction}"
            maps.append(AttentionMap(title, "attention", layers, axis, axis))
        return maps

    def _classify_examples(self, state):
        """Classify a query of episodes of the test classes, or of one-shot runs if there are none.

        Returns:
            Images, episodes, the predicted classes `[B]`, and the weights `[B, S + 1, S + 1]` of
            every attention block.
        """
        if "test" in self.classes:
            shots = min(self.config.data.shots)
            batch = self._sample("test", self._rng("test", 0), shots, MAX_ROWS)
        else:
            assert self.runs is not None  # a dataset without test classes has one-shot runs
            batch = self.runs.episodes()
        batch = Episodes(*(x[:MAX_ROWS] for x in batch))
        key, strength = jax.random.key(0), self.config.evaluation.distortion
        images = jax.jit(random_affine, static_argnums=2)(batch.images, key, strength)
        logits, weights = self._jitted_classify(state.params, images, batch.labels)
        weights = [np.asarray(layer)[:, 0] for layer in weights]
        return np.asarray(images), batch, np.argmax(logits[:, 0], axis=-1), weights

    @cached_property
    def _jitted_classify(self):
        return jax.jit(self._classify)


def mean_and_interval(name: str, values: Float[np.ndarray, " B"]) -> dict[str, float]:
    """Return the mean of independent values, and the half width of its 95% confidence interval."""
    half_width = NORMAL_QUANTILE * np.std(values) / np.sqrt(len(values))
    return {name: float(np.mean(values)), f"{name}_ci95": float(half_width)}
