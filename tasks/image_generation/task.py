"""Image generation by two networks against each other.

Zhang et al. 2019, sec. 3.1 and 4: hinge losses, spectral normalisation in both networks, one update
of each in turn with learning rates of their own; and an average over time of the generator's
weights, by which it is judged. The average is of weights as they are used, that is, normalised.
"""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx
from jaxtyping import Array, Float, Int
from matplotlib.figure import Figure

from models import spectral_norm as spectral
from models.convolutions import Moments
from models.sagan.networks import Discriminator, Generated, Generator
from tasks.base import Metrics
from tasks.image_generation import figures as drawing
from tasks.image_generation.data.augment import Augment, prepare
from tasks.image_generation.data.images import THREADS, RandomBatches, load
from tasks.image_generation.evaluation import Judge
from training import optimizer
from training.errors import UserError, section
from training.prefetch import prefetch

NETWORKS = ("generator", "discriminator")
COLUMNS = 10  # of the pictures
NEIGHBOURS = 4  # real images beside a drawn one
QUERIES = ((0.2, 0.5), (0.5, 0.35), (0.5, 0.65), (0.8, 0.5))  # points, as shares down and right


class State(NamedTuple):
    """Two networks and all that goes with them, by name of the network.

    Attributes:
        step: updates made.
        params: weights.
        opt_state: of their optimizers.
        vectors: by which their weights are normalised.
        average: of the generator's normalised weights.
        won: steps in a row in which the discriminator had nothing left to learn.
        uniform: steps in a row in which the generator drew all images alike.
    """

    step: Int[Array, ""]
    params: dict[str, Any]
    opt_state: dict[str, Any]
    vectors: dict[str, spectral.Vectors]
    average: Any
    won: Int[Array, ""]
    uniform: Int[Array, ""]


def build(config: Any, workdir: str) -> "ImageGeneration":
    """Builds the task from a config.

    Raises:
        UserError: for data that cannot be had, or a value of the model that there is not.
    """
    task = build_abstract(config, workdir)
    task.open()
    return task


def build_abstract(config: Any, workdir: str) -> "ImageGeneration":
    """Shapes the networks alone; of a dataset only the classes must be known."""
    return ImageGeneration(config, workdir)


class ImageGeneration:
    """See the module, and `tasks.image_generation.evaluation` for the measures."""

    unit = "images"

    def __init__(self, config: Any, workdir: str):
        self.config, self.workdir = config, workdir
        self.images = load(**config.data)
        self.augment = Augment(**config.augment)
        self.classes = self.images["train"].classes
        self.conditional = bool(config.model.conditional)
        self.optimizers = {name: optimizer.build(**config.optimizer[name]) for name in NETWORKS}
        if config.train.average > 1:
            raise UserError(
                "train.average must be 1: the generator is averaged step by step, see model.average"
            )
        with section("model"):
            abstract = nnx.eval_shape(lambda: self.create(jax.random.key(0)))
        self.graphs = {name: nnx.graphdef(model) for name, model in abstract.items()}
        self.judge = Judge(
            self.images, self.augment, workdir, self.conditional, **config.evaluation
        )
        self._health = dict(config.health)
        self._compiled: dict[str, Any] = {}

    def open(self) -> None:
        """Makes sure of the images, and of what judges them: fails now or never."""
        for images in self.images.values():
            len(images)
        self.judge.open()

    def create(self, key: Array) -> dict[str, nnx.Module]:
        """Both networks with their first weights."""
        model, data = self.config.model, self.config.data
        keys = jax.random.split(key)
        common = {
            "resolution": data.resolution,
            "channels": data.channels,
            "classes": len(self.classes) if model.conditional else 0,
            "attention": model.attention,
            "feature": model.feature,
            "dtype": model.dtype,
        }
        widths = model.width
        return {
            "generator": Generator(
                **common, width=widths.generator, latent=model.latent, key=keys[0]
            ),
            "discriminator": Discriminator(**common, width=widths.discriminator, key=keys[1]),
        }

    @property
    def splits(self) -> tuple[str, ...]:
        return ("test",)

    def samples(self, state: State) -> str:
        """None: images are in the figures."""
        return ""

    def describe(self) -> dict[str, str]:
        """The images, and by what they are judged."""
        data, sizes = self.config.data, {name: len(x) for name, x in self.images.items()}
        side = data.resolution
        return {
            "data": f"{data.source}, {side} x {side}: {sizes['train']:,} images in "
            f"{len(self.classes)} classes, {sizes['test']:,} held out",
            "metrics": self.judge.describe(),
        }

    # Training.

    def init(self, key: Array) -> State:
        """Both networks at step 0."""
        keys = jax.random.split(key, 3)
        params = {name: nnx.state(model) for name, model in self.create(keys[0]).items()}
        vectors = {
            name: spectral.start(params[name], key)
            for name, key in zip(NETWORKS, keys[1:], strict=True)
        }
        opt_state = {name: self.optimizers[name].init(params[name]) for name in NETWORKS}
        average, _ = spectral.normalise(params["generator"], vectors["generator"])
        zero = jnp.int32(0)
        return State(zero, params, opt_state, vectors, average, zero, zero)

    def train_step(
        self, state: State, batch: dict[str, Array], key: Array
    ) -> tuple[State, Metrics]:
        """An update of the discriminator, then one of the generator against the new one.

        Both draw images of the classes of the real ones.
        """
        keys = jax.random.split(key, 3)
        real, labels = prepare(batch["image"], self.augment, keys[0]), batch["label"]
        weights, vectors_g = spectral.normalise(
            state.params["generator"], state.vectors["generator"]
        )
        fake = self._draw(weights, keys[1], labels)

        def discriminator_loss(params):
            weights, vectors = spectral.normalise(params, state.vectors["discriminator"])
            # Side by side, not end to end: on the devices that have them, if rows are split.
            both = jnp.stack([real, fake], 1).reshape(-1, *real.shape[1:])
            scores = self._judge(weights, both, jnp.repeat(labels, 2)).reshape(-1, 2)
            of_real, of_fake = scores[:, 0], scores[:, 1]
            loss = jax.nn.relu(1.0 - of_real).mean() + jax.nn.relu(1.0 + of_fake).mean()
            return loss, (vectors, of_real, of_fake)

        discriminator, opt_d, (loss_d, (vectors_d, of_real, of_fake)), norm_d = self._update(
            "discriminator", discriminator_loss, state
        )
        judge, vectors_d = spectral.normalise(discriminator, vectors_d)

        def generator_loss(params):
            weights, vectors = spectral.normalise(params, vectors_g)
            fake = self._draw(weights, keys[2], labels)
            return -self._judge(judge, fake, labels).mean(), (vectors, weights, fake)

        generator, opt_g, (loss_g, (vectors_g, weights, fake)), norm_g = self._update(
            "generator", generator_loss, state
        )
        diversity = self._spread(fake, labels) / self._spread(real, labels)
        count = lambda before, again: jnp.where(again, before + 1, 0)
        state = State(
            state.step + 1,
            dict(zip(NETWORKS, (generator, discriminator), strict=True)),
            dict(zip(NETWORKS, (opt_g, opt_d), strict=True)),
            dict(zip(NETWORKS, (vectors_g, vectors_d), strict=True)),
            self._averaged(state, weights),
            count(state.won, loss_d < self._health["least_loss"]),
            count(state.uniform, diversity < self._health["least_diversity"]),
        )
        return state, {
            "loss": loss_d,
            "generator_loss": loss_g,
            "items": jnp.float32(len(labels)),
            "grad_norm": norm_g,
            "discriminator_grad_norm": norm_d,
            "real_score": of_real.mean(),
            "fake_score": of_fake.mean(),
            "told_apart": jnp.mean((of_real > 0) & (of_fake < 0)),
            "diversity": diversity,
            "won": state.won.astype(jnp.float32),
            "uniform": state.uniform.astype(jnp.float32),
        }

    def fault(self, metrics: dict[str, Any]) -> str:
        """What makes it useless to go on, after too many steps in a row; '' while there is hope."""
        patience = self._health["patience"]
        if metrics["won"] >= patience:
            return (
                f"the discriminator's loss has been below {self._health['least_loss']} for "
                f"{patience:,} steps, so the generator learns nothing any more: lower "
                "optimizer.discriminator.peak, or give the generator more width"
            )
        if metrics["uniform"] >= patience:
            return (
                f"the generator's images have differed by less than "
                f"{self._health['least_diversity']:.0%} of what real ones do for {patience:,} "
                "steps, it has collapsed: lower the learning rates, or begin with another seed"
            )
        return ""

    def batches(self, split: str, start_step: int) -> Iterator[dict[str, np.ndarray]]:
        """Images as bytes, and their classes."""
        del split
        rows = RandomBatches(self.images["train"], self.config.batch, self.config.seed)
        return prefetch(rows, start_step, THREADS)

    def largest_batch(self) -> dict[str, jax.ShapeDtypeStruct]:
        """All are alike."""
        rows, data = self.config.batch, self.config.data
        shape = (rows, data.resolution, data.resolution, data.channels)
        return {
            "image": jax.ShapeDtypeStruct(shape, jnp.uint8),
            "label": jax.ShapeDtypeStruct((rows,), jnp.int32),
        }

    def _draw(self, weights, key, labels) -> Float[Array, "B R R C"]:
        """Images from noise, each normalised by the moments of its batch."""
        return self._generate(weights, None, key, labels).images

    def _judge(self, weights, images, labels) -> Float[Array, " B"]:
        return nnx.merge(self.graphs["discriminator"], weights)(images, self._told(labels))

    def _told(self, labels):
        return labels if self.conditional else None

    def _update(self, name, loss, state):
        """One update of a network: weights, optimizer, what the loss returned, and the norm."""
        (value, rest), gradient = jax.value_and_grad(loss, has_aux=True)(state.params[name])
        updates, opt_state = self.optimizers[name].update(
            gradient, state.opt_state[name], state.params[name]
        )
        params = optax.apply_updates(state.params[name], updates)
        return params, opt_state, (value, rest), optax.tree.norm(gradient)

    def _averaged(self, state, weights):
        """The moving average, over all steps while there are few (as TensorFlow's)."""
        step = state.step.astype(jnp.float32)
        keep = jnp.minimum(self.config.model.average, (1.0 + step) / (10.0 + step))
        return jax.tree.map(lambda a, w: keep * a + (1.0 - keep) * w, state.average, weights)

    def _spread(self, images, labels):
        """Root mean square distance from the mean image: of the class, if many of each are here."""
        flat = images.reshape(len(images), -1)
        classes = len(self.classes)
        if 2 * classes > len(flat):
            return jnp.sqrt(jnp.mean((flat - flat.mean(0)) ** 2))
        member = jax.nn.one_hot(labels, classes)
        means = (member.T @ flat) / jnp.maximum(member.sum(0), 1.0)[:, None]
        return jnp.sqrt(jnp.mean((flat - member @ means) ** 2))

    # Evaluation.

    def evaluate(self, state: State, split: str) -> dict[str, float]:
        """See `tasks.image_generation.evaluation.Judge`; beside it, images for a person to look at."""
        draw = self.sampler(state)
        if split == "dev":
            images = np.asarray(draw(*self._shown()).images)
            grid = drawing.grid(images, len(images) // COLUMNS)
            drawing.save(grid, Path(self.workdir, "figures", f"samples_{int(state.step):06d}.png"))
        return self.judge.measures(draw, split)

    def sampler(self, state: State) -> Callable[..., Generated]:
        """`draw(key, labels)` of the averaged generator; or of noise, in the place of the key.

        Outside of training batch norms normalise by the mean moments of many batches, those of the
        averaged weights themselves: moments met in training belong to other weights.
        """
        moments = self._program("moments", self._moments)(state.average)
        draw = self._program("draw", self._generate)
        return lambda noise, labels: draw(state.average, moments, noise, labels)

    def _noise(self, key, rows):
        """Standard normal; `key` may already be noise, of images that are to be seen again."""
        if jnp.issubdtype(key.dtype, jax.dtypes.prng_key):
            return jax.random.normal(key, (rows, self.config.model.latent))
        return key

    def _program(self, name, function):
        if name not in self._compiled:
            self._compiled[name] = jax.jit(function)
        return self._compiled[name]

    def _generate(self, weights, moments, noise, labels):
        generator = nnx.merge(self.graphs["generator"], weights)
        return generator(self._noise(noise, len(labels)), self._told(labels), moments)

    def _moments(self, weights):
        rows, batches = self.config.batch, self.config.model.moments

        def one(n):
            key = jax.random.fold_in(jax.random.key(2019), n)
            labels = (jnp.arange(rows) + n * rows) % len(self.classes)
            found = self._generate(weights, None, key, labels).moments
            return [(mean, variance + mean * mean) for mean, variance in found]

        found = jax.tree.map(lambda x: x.mean(0), jax.lax.map(one, jnp.arange(batches)))
        return tuple(Moments(mean, squares - mean * mean) for mean, squares in found)

    # Pictures.

    def figures(self, state: State) -> dict[str, Figure]:
        """Images by class, on the way from one to another, beside real ones; and attention."""
        draw = self.sampler(state)
        noise, labels = self._shown()
        drawn = draw(noise, labels)
        images, rows = np.asarray(drawn.images), len(labels) // COLUMNS
        share = jnp.linspace(0.0, 1.0, COLUMNS)[:, None]
        other = jnp.roll(noise, 1, axis=0)
        between = jnp.concatenate(
            [(1 - share) * noise[n] + share * other[n] for n in range(0, len(noise), COLUMNS + 1)]
        )
        lines = np.asarray(draw(between, labels).images)
        one = slice(None, None, COLUMNS + 1)  # of each class, another noise
        real = self.judge.nearest(images[one], NEIGHBOURS)
        beside = np.concatenate([images[one, None], real], axis=1).reshape(-1, *images.shape[1:])
        titled = {
            "samples": ("a row a class, a column a noise", images, rows, 5.0),
            "interpolations": ("from one noise to another", lines, rows, 5.0),
            "nearest": ("drawn, and the nearest real ones", beside, len(real), 2.6),
        }
        figures = {
            name: drawing.page({title: drawing.grid(shown, count)}, 1, inches)
            for name, (title, shown, count, inches) in titled.items()
        }
        if drawn.attention is not None:
            attention = np.asarray(drawn.attention)[one]
            figures["attention"] = drawing.attended(images[one], attention, QUERIES)
        kept = sorted(Path(self.workdir, "figures").glob("samples_*.png"))
        if kept:
            kept = kept[:: -(-len(kept) // 8)]
            steps = {f"step {int(path.stem[8:]):,}": drawing.read(path) for path in kept}
            figures["through_training"] = drawing.page(steps, min(4, len(steps)), 3.0)
        return figures

    def _shown(self):
        """Noise and classes of the images that are looked at through training: a row per class.

        With classes, the images of a column share their noise.
        """
        rows = min(len(self.classes), COLUMNS) if self.conditional else COLUMNS
        noises = COLUMNS if self.conditional else rows * COLUMNS
        noise = jax.random.normal(jax.random.key(1), (noises, self.config.model.latent))
        noise = jnp.tile(noise, (rows * COLUMNS // noises, 1))
        return noise, jnp.repeat(jnp.arange(rows) % len(self.classes), COLUMNS)
