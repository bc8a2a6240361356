"""Few-shot classification: N classes never seen before, K examples of each, and one to be named.

Mishra et al. 2018, sec. 5.1. Scripts and their letters are drawn on the host from the seed and the
step; each picture is distorted on the device. The loss is on the last picture alone.
"""

from collections.abc import Iterator
from functools import cached_property, partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx
from jax.scipy.ndimage import map_coordinates
from jaxtyping import Array, Float, PRNGKeyArray, UInt8
from matplotlib.figure import Figure

from models.snail.few_shot import FewShot
from tasks.base import Supervised
from tasks.few_shot import classes as pictures_by_class
from tasks.few_shot.classes import Episodes
from training import mesh, optimizer
from training.errors import UserError, section
from training.state import TrainState

ANGLE, STRETCH, SHEAR, SHIFT = 0.3, 0.2, 0.2, 2.0  # the most of each: radians, parts, parts, pixels


def build(config: Any, workdir: str) -> "FewShotTask":
    """Builds the task from a config.

    Raises:
        UserError: for pictures that are not there, or a value of the model that it does not take.
    """
    del workdir  # nothing is learned before training
    return FewShotTask(config)


class FewShotTask(Supervised):
    """See the module. `accuracy_K_shot` is the paper's measure.

    Beside it: `nearest_K_shot`, of the label of the nearest picture, pixel by pixel.
    """

    unit = "episodes"

    def __init__(self, config: Any):
        super().__init__(optimizer.build(**config.optimizer), config.train.accumulate)
        self.config, data = config, config.data
        self.classes = pictures_by_class.load(
            source=data.source, size=data.size, data_dir=data.data_dir
        )
        if min(data.shots) < 1:
            raise UserError(f"data.shots={data.shots} must be of one example or more.")
        most = max(data.shots)
        fewest = min(len(pictures_by_class.having(x, most)) for x in self.classes.values())
        if not 1 < data.ways <= fewest:
            raise UserError(
                f"data.ways={data.ways} must be from 2 to {fewest}, as so many classes have the "
                f"{most + 1} examples that {most} shots ask for."
            )
        with section("model"):
            self.graphdef = nnx.graphdef(nnx.eval_shape(lambda: self.create(jax.random.key(0))))

    def create(self, key: Array) -> FewShot:
        """The model with its first weights."""
        data = self.config.data
        return FewShot(
            ways=data.ways,
            size=data.size,
            longest=data.ways * max(data.shots) + 1,
            key=key,
            **self.config.model,
        )

    @property
    def splits(self) -> tuple[str, ...]:
        return ("test",)

    def describe(self) -> dict[str, str]:
        """How many classes there are."""
        counts = ", ".join(f"{split} {len(found):,}" for split, found in self.classes.items())
        shots = ", ".join(map(str, self.config.data.shots))
        return {
            "data": f"{self.config.data.source}, classes: {counts}",
            "episodes": f"{self.config.data.ways}-way, {shots}-shot",
        }

    # Training.

    def init_params(self, key: Array) -> nnx.State:
        return nnx.state(self.create(key))

    def loss(self, params, batch, key):
        """Cross-entropy of the last picture's label."""
        logits, _ = self._logits(params, batch, key)
        target = batch.labels[:, -1]
        losses = optax.losses.softmax_cross_entropy_with_integer_labels(logits, target)
        right = jnp.argmax(logits, axis=-1) == target
        return losses.sum(), jnp.float32(len(target)), {"accuracy": jnp.float32(right.sum())}

    def _logits(self, params, batch, key):
        pictures = distort(batch.pictures, key, self.config.data.distortion)
        return nnx.merge(self.graphdef, params)(pictures, batch.labels[:, :-1])

    def batches(self, split: str, start_step: int) -> Iterator[Episodes]:
        """Each step's number of shots is drawn from those of the config."""
        shots, step = self.config.data.shots, start_step
        while True:
            rng = self._rng(split, step)
            yield self._draw(split, rng, int(shots[rng.integers(len(shots))]))
            step += 1

    def _draw(self, split: str, rng: Any, shots: int) -> Episodes:
        data = self.config.data
        return pictures_by_class.draw(
            self.classes[split],
            rng,
            rows=data.batch,
            ways=data.ways,
            shots=shots,
            shuffled=data.shuffle_labels,
        )

    def _rng(self, split: str, step: int) -> Any:
        """Of training by the run's seed; of other splits the same in every run."""
        seed = self.config.seed if split == "train" else 0
        return np.random.default_rng([seed, sum(split.encode()), step])

    # Evaluation.

    def evaluate(self, state: TrainState, split: str) -> dict[str, float]:
        """Over the same episodes at every call."""
        measures: dict[str, float] = {}
        batches = max(1, self.config.data.evaluated // self.config.data.batch)
        for shots in dict.fromkeys((min(self.config.data.shots), max(self.config.data.shots))):
            right = np.zeros(2)
            for n in range(batches):
                batch = self._draw(split, self._rng(split, n), shots)
                key = jax.random.key(n)
                with mesh.split_rows(state.params) as by_rows:
                    shares = self._right(state.params, by_rows(batch), key)
                right += jax.device_get(shares) / batches
            measures[f"accuracy_{shots}_shot"], measures[f"nearest_{shots}_shot"] = right
        return {name: float(x) for name, x in measures.items()}

    @cached_property
    def _right(self):
        return jax.jit(self._shares)

    def _shares(self, params, batch, key):
        """The share that the model names rightly, and that the nearest picture does."""
        target = batch.labels[:, -1]
        named = jnp.argmax(self._logits(params, batch, key)[0], axis=-1)
        pictures = distort(batch.pictures, key, self.config.data.distortion)
        distances = jnp.sum((pictures[:, :-1] - pictures[:, -1:]) ** 2, axis=(2, 3))
        nearest = jnp.argmin(distances, axis=1)
        same = jnp.take_along_axis(batch.labels, nearest[:, None], axis=1)[:, 0]
        return jnp.stack([jnp.mean(named == target), jnp.mean(same == target)])

    # Pictures.

    def figures(self, state: TrainState) -> dict[str, Figure]:
        """A few episodes of one shot: what was shown, where attention looks, what was answered."""
        batch, key = (
            self._draw("test", self._rng("test", 0), min(self.config.data.shots)),
            jax.random.key(0),
        )
        logits, weights = jax.jit(self._logits)(state.params, batch, key)
        pictures = distort(jnp.asarray(batch.pictures), key, self.config.data.distortion)
        named = np.argmax(logits, axis=-1)
        rows, columns = min(6, len(named)), pictures.shape[1]
        figure = Figure(figsize=(1.1 * columns, 1.4 * rows), layout="constrained")
        grid = figure.subplots(rows, columns, squeeze=False)
        for row, panels in enumerate(grid):
            for t, axes in enumerate(panels):
                axes.imshow(pictures[row, t], cmap="gray_r")
                axes.set(xticks=[], yticks=[])
                label = batch.labels[row, t]
                looked = "" if not weights else f" · {weights[-1][row, -1, t]:.2f}"
                asked = f"{label}, said {named[row]}"
                axes.set_title(asked if t + 1 == columns else f"{label}{looked}", fontsize=7)
        figure.suptitle(
            "label · weight of the last attention block; last: what was asked", fontsize=8
        )
        return {"episodes": figure}


def distort(
    pictures: UInt8[Array, "B T P P"], key: PRNGKeyArray, strength: float
) -> Float[Array, "B T P P"]:
    """Turns, stretches, slants and moves each picture a little; ink is 1.

    Args:
        pictures: ink is 255.
        key: draws how.
        strength: 0 for none, 1 for as much as the limits above.
    """
    ink = pictures.astype(jnp.float32) / 255.0
    if not strength:
        return ink
    count, side = ink.shape[0] * ink.shape[1], ink.shape[-1]
    keys = jax.random.split(key, 4)
    uniform = partial(jax.random.uniform, minval=-strength, maxval=strength)
    angle, shear = ANGLE * uniform(keys[0], (count,)), SHEAR * uniform(keys[1], (count,))
    stretch, shift = (
        1 + STRETCH * uniform(keys[2], (2, count)),
        SHIFT * uniform(keys[3], (2, count)),
    )
    middle = (side - 1) / 2
    rows, columns = jnp.meshgrid(
        jnp.arange(side) - middle, jnp.arange(side) - middle, indexing="ij"
    )

    def one(picture, angle, shear, stretch, shift):
        y, x = rows * stretch[0], (columns + shear * rows) * stretch[1]
        turned = (
            jnp.cos(angle) * y - jnp.sin(angle) * x + middle + shift[0],
            jnp.sin(angle) * y + jnp.cos(angle) * x + middle + shift[1],
        )
        return map_coordinates(picture, turned, order=1)

    flat = ink.reshape(count, side, side)
    return jax.vmap(one)(flat, angle, shear, stretch.T, shift.T).reshape(ink.shape)
