"""Training of a generative adversarial network.

Zhang et al. 2019, sec. 3.1 and 4: hinge losses, spectral normalization in both networks, and one
update of each network per step, with separate learning rates. The evaluated generator is an
exponential moving average (EMA) of the spectrally normalized parameters.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx
from jaxtyping import Array, Bool, Float, Int
from matplotlib.figure import Figure

from models import spectral_norm
from models.sagan import Discriminator, Generator
from tasks.attention_maps import AttentionMap
from tasks.base import Metrics, ShowsAttention
from tasks.image_generation import figures
from tasks.image_generation.data import sources
from tasks.image_generation.data.augment import Augmentation, preprocess
from tasks.image_generation.data.batching import THREADS, RandomBatches
from tasks.image_generation.evaluation import Evaluator
from tasks.image_generation.sampler import GeneratorFunctions, Sampler
from tasks.subsets import fixed_sample
from training import hosts, optimizer
from training.errors import UserError, config_section
from training.prefetch import prefetch

NETWORKS = ("generator", "discriminator")
COLUMNS = 10  # columns of the image grids
DIAGONAL = slice(None, None, COLUMNS + 1)  # one image per row of a grid, of different latents
NEIGHBORS = 4  # nearest training images per generated image
QUERIES = ((0.2, 0.5), (0.5, 0.35), (0.5, 0.65), (0.8, 0.5))  # (down, right), fractions of the size


class State(NamedTuple):
    """Training state; dictionaries have one entry per network.

    Attributes:
        step: number of updates.
        params: parameters before spectral normalization.
        opt_state: states of the optimizers.
        vectors: singular vectors of the spectral normalization.
        ema_params: moving average of the generator's normalized parameters.
        low_loss_steps: consecutive steps in which the discriminator's loss was too low.
        low_diversity_steps: consecutive steps in which the generated images were too similar.
    """

    step: Int[Array, ""]
    params: dict[str, Any]
    opt_state: dict[str, Any]
    vectors: dict[str, spectral_norm.SingularVectors]
    ema_params: Any
    low_loss_steps: Int[Array, ""]
    low_diversity_steps: Int[Array, ""]


def build(config: Any, workdir: str) -> "ImageGeneration":
    """Build the task from a config.

    Raises:
        UserError: for missing data or invalid config values.
    """
    task = build_abstract(config, workdir)
    task.validate()
    return task


def build_abstract(config: Any, workdir: str) -> "ImageGeneration":
    """Build the task without reading images; only the classes of the dataset must be known."""
    return ImageGeneration(config, workdir)


class ImageGeneration(ShowsAttention):
    """Image generation task; see the module for training and `Evaluator` for the metrics."""

    unit = "images"

    def __init__(self, config: Any, workdir: str):
        self.config, self.workdir = config, workdir
        self.images = sources.load(**config.data)
        self.augmentation = Augmentation(**config.augment)
        self.classes = self.images["train"].classes
        self.conditional = bool(config.model.conditional)
        self.optimizers = {name: optimizer.build(**config.optimizer[name]) for name in NETWORKS}
        if config.train.average > 1:
            raise UserError(
                "train.average must be 1 for image generation: set model.ema_decay instead."
            )
        with config_section("model"):
            abstract = nnx.eval_shape(lambda: self.create_networks(jax.random.key(0)))
        self.graphdefs = {name: nnx.graphdef(network) for name, network in abstract.items()}
        self.generator = GeneratorFunctions(
            self.graphdefs["generator"],
            latent_size=config.model.latent_size,
            classes=len(self.classes),
            conditional=self.conditional,
            batch_size=config.batch,
            moment_batches=config.model.moment_batches,
        )
        self.evaluator = Evaluator(
            self.images, self.augmentation, workdir, self.conditional, **config.evaluation
        )
        self._divergence = dict(config.divergence)

    def validate(self) -> None:
        """Check before training that images can be read and that the evaluation is possible."""
        for images in self.images.values():
            images.check()
        self.evaluator.validate()

    def has_metric(self, name: str) -> bool:
        """Return whether a metric belongs to the features that the config evaluates."""
        return self.evaluator.has_metric(name)

    def create_networks(self, key: Array) -> dict[str, nnx.Module]:
        """Create both networks with their initial parameters."""
        model, data = self.config.model, self.config.data
        keys = jax.random.split(key)
        common = {
            "resolution": data.resolution,
            "channels": data.channels,
            "classes": len(self.classes) if model.conditional else 0,
            "attention": model.attention,
            "attention_resolution": model.attention_resolution,
            "dtype": model.dtype,
        }
        return {
            "generator": Generator(
                **common,
                width=model.width.generator,
                latent_size=model.latent_size,
                key=keys[0],
            ),
            "discriminator": Discriminator(**common, width=model.width.discriminator, key=keys[1]),
        }

    @property
    def splits(self) -> tuple[str, ...]:
        """Return the test split."""
        return ("test",)

    def samples(self, state: State) -> str:
        """Return '', because images are in the figures."""
        return ""

    def data_fingerprint(self) -> dict[str, str]:
        """Return the number of training images, and a digest that identifies the images."""
        images = self.images["train"]
        return {"train": f"{len(images):,} images (digest {images.fingerprint()})"}

    def describe(self) -> dict[str, str]:
        """Summarize the dataset and the metrics."""
        data, sizes = self.config.data, {name: len(x) for name, x in self.images.items()}
        side, form = data.resolution, self.images["train"].form
        return {
            "data": f"{data.source} ({form}), {side} x {side}: {sizes['train']:,} training and "
            f"{sizes['test']:,} test images, classes: {len(self.classes)}",
            "metrics": self.evaluator.describe(),
        }

    # Training.

    def init(self, key: Array) -> State:
        """Return the state at step 0."""
        keys = jax.random.split(key, 3)
        networks = self.create_networks(keys[0])
        params = {name: nnx.state(network) for name, network in networks.items()}
        vectors = {
            name: spectral_norm.init_vectors(params[name], key)
            for name, key in zip(NETWORKS, keys[1:], strict=True)
        }
        opt_state = {name: self.optimizers[name].init(params[name]) for name in NETWORKS}
        ema_params, _ = spectral_norm.normalize(params["generator"], vectors["generator"])
        zero = jnp.int32(0)
        return State(zero, params, opt_state, vectors, ema_params, zero, zero)

    def train_step(
        self, state: State, batch: dict[str, Array], key: Array
    ) -> tuple[State, Metrics]:
        """Update the discriminator, then the generator against the updated discriminator.

        Images are generated for the classes of the real images.
        """
        keys = jax.random.split(key, 3)
        real, labels = preprocess(batch["image"], self.augmentation, keys[0]), batch["label"]
        params, vectors_g = spectral_norm.normalize(
            state.params["generator"], state.vectors["generator"]
        )
        fake = self.generator.sample(params, None, keys[1], labels).images
        loss = lambda params: self._discriminator_loss(
            params, state.vectors["discriminator"], real, fake, labels
        )
        params_d, opt_d, loss_d, norm_d, (vectors_d, scores) = self._update(
            "discriminator", loss, state
        )
        normalized_d, vectors_d = spectral_norm.normalize(params_d, vectors_d)
        loss = lambda params: self._generator_loss(params, vectors_g, normalized_d, keys[2], labels)
        params_g, opt_g, loss_g, norm_g, (vectors_g, normalized_g, fake) = self._update(
            "generator", loss, state
        )
        diversity = self._deviation(fake, labels) / self._deviation(real, labels)
        state = State(
            state.step + 1,
            dict(zip(NETWORKS, (params_g, params_d), strict=True)),
            dict(zip(NETWORKS, (opt_g, opt_d), strict=True)),
            dict(zip(NETWORKS, (vectors_g, vectors_d), strict=True)),
            self._update_ema(state, normalized_g),
            _count_consecutive(state.low_loss_steps, loss_d < self._divergence["min_loss"]),
            _count_consecutive(
                state.low_diversity_steps, diversity < self._divergence["min_diversity"]
            ),
        )
        return state, {
            "loss": loss_d,
            "generator_loss": loss_g,
            "items": jnp.float32(len(labels)),
            "grad_norm": norm_g,
            "discriminator_grad_norm": norm_d,
            "real_score": scores[:, 0].mean(),
            "fake_score": scores[:, 1].mean(),
            "discriminator_accuracy": jnp.mean((scores[:, 0] > 0) & (scores[:, 1] < 0)),
            "diversity": diversity,
            "low_loss_steps": state.low_loss_steps.astype(jnp.float32),
            "low_diversity_steps": state.low_diversity_steps.astype(jnp.float32),
        }

    def check_divergence(self, metrics: dict[str, Any]) -> str:
        """Return the reason to stop the run, or '' to continue."""
        patience = self._divergence["patience"]
        if metrics["low_loss_steps"] >= patience:
            return (
                f"the discriminator's loss was below {self._divergence['min_loss']} for "
                f"{patience:,} steps, so the generator has no gradient: lower "
                "optimizer.discriminator.learning_rate or raise model.width.generator"
            )
        if metrics["low_diversity_steps"] >= patience:
            return (
                f"the generated images varied less than {self._divergence['min_diversity']:.0%} as "
                f"much as the real images for {patience:,} steps (mode collapse): lower the "
                "learning rates or change the seed"
            )
        return ""

    def batches(self, split: str, start_step: int) -> Iterator[dict[str, np.ndarray]]:
        """Yield training batches of uint8 images and their classes."""
        del split
        batches = RandomBatches(self.images["train"], self.config.batch, self.config.seed)
        return prefetch(batches, start_step, THREADS)

    def largest_batch(self) -> dict[str, jax.ShapeDtypeStruct]:
        """Return the shapes of a training batch; all batches have the same shapes."""
        size, data = self.config.batch, self.config.data
        shape = (size, data.resolution, data.resolution, data.channels)
        return {
            "image": jax.ShapeDtypeStruct(shape, jnp.uint8),
            "label": jax.ShapeDtypeStruct((size,), jnp.int32),
        }

    def _discriminator_loss(self, params, vectors, real, fake, labels):
        """Hinge loss; also returns the new singular vectors and the scores `[B, (real, fake)]`."""
        params, vectors = spectral_norm.normalize(params, vectors)
        # Interleaved instead of concatenated, so that a sharded batch is not communicated.
        both = jnp.stack([real, fake], 1).reshape(-1, *real.shape[1:])
        scores = self._score(params, both, jnp.repeat(labels, 2)).reshape(-1, 2)
        loss = jax.nn.relu(1.0 - scores[:, 0]).mean() + jax.nn.relu(1.0 + scores[:, 1]).mean()
        return loss, (vectors, scores)

    def _generator_loss(self, params, vectors, discriminator, key, labels):
        """Hinge loss; also returns singular vectors, normalized parameters, and images.

        `discriminator` holds the normalized parameters of the discriminator.
        """
        params, vectors = spectral_norm.normalize(params, vectors)
        fake = self.generator.sample(params, None, key, labels).images
        loss = -self._score(discriminator, fake, labels).mean()
        return loss, (vectors, params, fake)

    def _score(self, params, images, labels) -> Float[Array, " B"]:
        discriminator = nnx.merge(self.graphdefs["discriminator"], params)
        return discriminator(images, labels if self.conditional else None)

    def _update(self, name, loss, state):
        """Update a network; returns parameters, optimizer state, loss, gradient norm, auxiliaries.

        `loss` returns the loss and the auxiliaries.
        """
        params = state.params[name]
        (value, auxiliaries), grads = jax.value_and_grad(loss, has_aux=True)(params)
        updates, opt_state = self.optimizers[name].update(grads, state.opt_state[name], params)
        params = optax.apply_updates(params, updates)
        return params, opt_state, value, optax.tree.norm(grads), auxiliaries

    def _update_ema(self, state, params):
        """Update the moving average, with a lower decay in the first steps, as in TensorFlow."""
        step = state.step.astype(jnp.float32)
        decay = jnp.minimum(self.config.model.ema_decay, (1.0 + step) / (10.0 + step))
        average = lambda ema, new: decay * ema + (1.0 - decay) * new
        return jax.tree.map(average, state.ema_params, params)

    def _deviation(self, images, labels):
        """Root mean square deviation from the class means, or from the mean in a small batch."""
        flat = images.reshape(len(images), -1)
        classes = len(self.classes)
        if 2 * classes > len(flat):
            return jnp.sqrt(jnp.mean((flat - flat.mean(0)) ** 2))
        one_hot = jax.nn.one_hot(labels, classes)
        means = (one_hot.T @ flat) / jnp.maximum(one_hot.sum(0), 1.0)[:, None]
        return jnp.sqrt(jnp.mean((flat - one_hot @ means) ** 2))

    # Evaluation.

    def evaluate(self, state: State, split: str) -> dict[str, float]:
        """Compute the metrics of the EMA generator; for the dev split, also save images."""
        sampler = self.sampler(state)
        if split == "dev" and hosts.is_primary():
            images = np.asarray(sampler.generate(*self._figure_inputs()).images)
            path = Path(self.workdir, "figures", f"samples_{int(state.step):06d}.png")
            figures.save_png(figures.tile(images, len(images) // COLUMNS), path)
        return self.evaluator.evaluate(sampler.sample, split)

    def sampler(self, state: State) -> Sampler:
        """Return the sampler of the EMA generator."""
        return self.generator.sampler(state.ema_params)

    def figures(self, state: State) -> dict[str, Figure]:
        """Plot samples, interpolations, nearest training images, attention, and past samples."""
        sampler = self.sampler(state)
        latents, labels = self._figure_inputs()
        output = sampler.generate(latents, labels)
        images, rows = np.asarray(output.images), len(labels) // COLUMNS
        interpolations = np.asarray(sampler.generate(_interpolate(latents), labels).images)
        nearest = self.evaluator.nearest(images[DIAGONAL], NEIGHBORS)
        columns = np.concatenate([images[DIAGONAL, None], nearest], axis=1)
        layout = " (rows: classes, columns: latents)" if self.conditional else ""
        grids = {
            "samples": (f"Samples{layout}", images, rows, 5.0),
            "interpolations": ("Interpolations between two latents", interpolations, rows, 5.0),
            "nearest": (
                "Samples (left) and nearest training images",
                columns.reshape(-1, *images.shape[1:]),
                len(columns),
                2.6,
            ),
        }
        plots = {
            name: figures.image_figure({title: figures.tile(x, count)}, 1, width)
            for name, (title, x, count, width) in grids.items()
        }
        if output.attention is not None:
            attention = np.asarray(output.attention)[DIAGONAL]
            plots["attention"] = figures.attention_figure(images[DIAGONAL], attention, QUERIES)
        paths = sorted(Path(self.workdir, "figures").glob("samples_*.png"))
        if paths:
            paths = paths[:: -(-len(paths) // 8)]
            past = {f"step {int(path.stem[8:]):,}": figures.read_png(path) for path in paths}
            plots["through_training"] = figures.image_figure(past, min(4, len(past)), 3.0)
        return plots

    def attention_maps(self, state: State, inputs: Any = None) -> list[AttentionMap]:
        """Return the generator's attention in sample images of different latents."""
        del inputs
        latents, labels = self._figure_inputs()
        output = self.sampler(state).generate(latents, labels)
        if output.attention is None:
            return []
        names = [self.classes[n] for n in np.asarray(labels)[DIAGONAL]] if self.conditional else []
        images, attention = map(np.asarray, (output.images, output.attention))
        return figures.image_maps(images[DIAGONAL], attention[DIAGONAL], names)

    def _figure_inputs(self):
        """Latents and classes of the sample images, the same for all steps.

        Each row has one class, from a random sample if there are more than `COLUMNS` classes. The
        images of a column share their latents; without classes all latents differ.
        """
        classes = fixed_sample(len(self.classes), COLUMNS)
        rows = len(classes) if self.conditional else COLUMNS
        count = COLUMNS if self.conditional else rows * COLUMNS
        latents = jax.random.normal(jax.random.key(1), (count, self.config.model.latent_size))
        latents = jnp.tile(latents, (rows * COLUMNS // count, 1))
        return latents, jnp.repeat(jnp.asarray(np.resize(classes, rows), jnp.int32), COLUMNS)


def _count_consecutive(count: Int[Array, ""], condition: Bool[Array, ""]) -> Int[Array, ""]:
    return jnp.where(condition, count + 1, 0)


def _interpolate(latents: Float[Array, "B Z"]) -> Float[Array, "B Z"]:
    """Interpolate linearly between two latents in each row of a grid of `COLUMNS` columns."""
    weight = jnp.linspace(0.0, 1.0, COLUMNS)[:, None]
    ends = jnp.roll(latents, 1, axis=0)
    diagonal = range(0, len(latents), COLUMNS + 1)
    return jnp.concatenate([(1 - weight) * latents[n] + weight * ends[n] for n in diagonal])
