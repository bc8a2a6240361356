"""Image captioning: images with several captions, a caption generator, and its metrics."""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jaxtyping import Array
from matplotlib.figure import Figure

from attention import doubly_stochastic_penalty
from models.beam_search import beam_search
from models.captioner import Captioner
from tasks.attention_maps import AttentionMap
from tasks.base import Supervised
from tasks.captioning import figures, metrics
from tasks.captioning.data import datasets
from tasks.captioning.data.batching import CaptionBatches, check_lengths, evaluation_batches
from tasks.captioning.data.dataset import CONTENT_CLASSES, WORD_CLASSES, CaptionedImages
from tasks.captioning.data.features import vgg_encoder
from tasks.captioning.data.image_files import ImageFiles
from tasks.captioning.data.vocabulary import WordVocabulary
from tasks.cross_entropy import linear_cross_entropy, log_probs
from tasks.hard_attention import check_alignment
from tasks.images import crop_and_resize, read_image
from tasks.subsets import fixed_sample
from tasks.vocabulary import BOS, EOS, PAD
from training import hosts, mesh, optimizer
from training.errors import config_section
from training.loop import check_best
from training.prefetch import prefetch
from training.state import TrainState

EXAMPLES = 3  # test images in figures
IMAGES_SHOWN = 8  # the user's images whose attention is shown


def build(config: Any, workdir: str) -> "Captioning":
    """Open the dataset, train or load the vocabulary, and define the model."""
    task = build_abstract(config, workdir)
    task.check_data()
    return task


def build_abstract(config: Any, workdir: str) -> "Captioning":
    """Define the model without opening the dataset."""
    return Captioning(config, Path(workdir))


class Captioning(Supervised):
    """Caption generator trained on images with captions; see `tasks.base.Task`.

    The loss is the cross-entropy plus `config.doubly_stochastic` times the penalty of Xu et al.
    2015, eq. 14, if the model has attention.
    """

    unit, independent_examples = "words", True
    samples_attention = False  # whether the task trains models with hard alignment

    def __init__(self, config: Any, workdir: Path):
        super().__init__(optimizer.build(**config.optimizer), config.train.accumulate)
        self.config, self.workdir = config, workdir
        self.vocabulary_size = config.vocabulary_size
        self.create: Callable[..., Captioner] = partial(
            Captioner, vocabulary=self.vocabulary_size, **config.model
        )
        with config_section("model"):
            abstract = nnx.eval_shape(lambda: self.create(key=jax.random.key(0)))
        self.graphdef, self.grid = nnx.graphdef(abstract), abstract.encoder.grid
        check_alignment(
            abstract.samples_attention, self.samples_attention, config.task, "captioning"
        )

    def check_data(self) -> None:
        """Load the vocabulary, for which a new run opens its data, to report faulty data early."""
        check_best(self, self.config.train.best)  # before the vocabulary is written
        check_lengths(self.config.batching.lengths)
        assert len(self.vocabulary) <= self.vocabulary_size

    @cached_property
    def dataset(self) -> Mapping[str, CaptionedImages]:
        """Images with captions by split.

        Raises:
            UserError: for faulty data, or if the encoder cannot read its images or features.
        """
        dataset = datasets.load(**self.config.data)
        inputs = dataset["train"].inputs[np.arange(1)]
        encode = lambda x: self.create(key=jax.random.key(0)).encode(normalize(x))
        with config_section("model"):
            jax.eval_shape(encode, inputs)
        return dataset

    @cached_property
    def splits(self) -> tuple[str, ...]:
        return tuple(sorted(name for name in self.dataset if name.startswith("test")))

    @cached_property
    def vocabulary(self) -> WordVocabulary:
        """Vocabulary of the run directory, made from the training captions if it has none."""
        captions, init_from = lambda: self.dataset["train"].captions, self.config.train.init_from
        return WordVocabulary.load_or_train(self.workdir, captions, self.vocabulary_size, init_from)

    def data_fingerprint(self) -> dict[str, str]:
        """Return the numbers of training and dev images, and digests; see `training.loop`."""
        return {split: self.dataset[split].summary for split in ("train", "dev")}

    def describe(self) -> dict[str, str]:
        """Summarize the dataset, the vocabulary and the map that the decoder attends to."""
        sizes = ", ".join(f"{len(images):,} {name}" for name, images in self.dataset.items())
        rows, columns = self.grid
        return {
            "data": f"{self.config.data.source}: {sizes} images",
            "vocabulary": f"{len(self.vocabulary):,} words",
            "attention": f"over {rows} x {columns} positions",
        }

    @property
    def _has_attention(self) -> bool:
        return self.config.model.attention.alignment != "none"

    # Training.

    def init_params(self, key: Array) -> nnx.State:
        return nnx.state(self.create(key=key))

    def loss(self, params, batch, key):
        """Cross-entropy in nats and doubly stochastic penalty, summed over words."""
        model, states, alignment = self._teacher_force(params, batch, key)
        valid = batch["caption"] != PAD
        loss, words = self._cross_entropy(model, states, batch)
        penalty = doubly_stochastic_penalty(alignment.weights, valid).sum()
        scale = self.config.doubly_stochastic * self._has_attention
        return loss + scale * penalty, words, {"cross_entropy": loss}

    def _teacher_force(self, params, batch, key):
        """Return the model, the inputs of its output layer, and the alignment."""
        model = nnx.merge(self.graphdef, params)
        key_memory, key_words = (None, None) if key is None else jax.random.split(key)
        memory = model.encode(normalize(batch["image"]), key_memory)
        return model, *model.decode(batch["caption"], memory, key_words)

    @staticmethod
    def _cross_entropy(model, states, batch):
        valid = batch["caption"] != PAD
        table = model.output_embedding.astype(states.dtype)
        loss = linear_cross_entropy(states, table, batch["caption"], valid)
        return loss, valid.sum().astype(jnp.float32)

    def batches(self, split: str, start_step: int) -> Iterator[dict[str, np.ndarray]]:
        """Yield batches of training captions and their images."""
        images = self.dataset[split]
        captions = self.vocabulary.encode_captions(images.captions)
        batching = self.config.batching
        return prefetch(
            CaptionBatches(images.inputs, captions, seed=self.config.seed, **batching), start_step
        )

    def largest_batch(self) -> dict[str, jax.ShapeDtypeStruct]:
        """Return the shapes of a training batch of the longest captions."""
        encoder, batching = self.config.model.encoder, self.config.batching
        if encoder.kind == "features":
            shape, dtype = (*encoder.grid, encoder.width), jnp.dtype(jnp.float16)
        else:
            shape, dtype = (*[encoder.resolution] * 2, encoder.channels), jnp.dtype(jnp.uint8)
        return {
            "image": jax.ShapeDtypeStruct((batching.size, *shape), dtype),
            "caption": jax.ShapeDtypeStruct((batching.size, max(batching.lengths)), jnp.int32),
        }

    # Evaluation.

    def has_metric(self, name: str) -> bool:
        """Return whether the dev split may have a metric; datasets without boxes lack pointing."""
        absent = name.startswith("pointing") and not self._has_attention
        return metrics.NAMES.fullmatch(name) is not None and not absent

    def evaluate(self, state: Any, split: str) -> dict[str, float]:
        """Compute the metrics of a split.

        `perplexity` is per word of the references. `exact_match` is the fraction of captions that
        equal a reference, `bleu_N` see `metrics.bleu`. For datasets with boxes, `pointing` is the
        accuracy of the attention while the model reads the references, see
        `metrics.pointing_accuracy`. `pointing_generated` is the accuracy on generated captions
        that equal a reference.
        """
        width = self.config.decode.dev_width if split == "dev" else self.config.decode.width
        return self.generation_metrics(state, split, width)

    def generation_metrics(self, state, split, width, key=None):
        """Compute the metrics of a split; with a key, models with hard attention sample."""
        images = self.dataset[split]
        captions = self.caption(state.params, images.inputs, width, key)
        values = metrics.bleu(captions, images.captions)
        values["exact_match"] = metrics.exact_match(captions, images.captions)
        values |= self._reference_metrics(state.params, images, key)
        return values | self._generated_pointing(state.params, images, captions, key)

    def caption(self, params: Any, inputs: Any, width: int, key: Array | None = None) -> list[str]:
        """Generate a caption for each image by beam search.

        Args:
            params: parameters of the model.
            inputs: images or features, see `CaptionedImages.inputs`.
            width: beam width.
            key: PRNG key to sample alignments; only for models with hard attention.
        """
        captions: list[str] = [""] * len(inputs)

        def search(indices):
            batch_key = None if key is None else jax.random.fold_in(key, int(indices[0]))
            with mesh.evaluation_mesh(params) as shard:
                batch = shard(inputs[indices])
                return indices, jax.device_get(self._search(params, batch, width, batch_key))

        batches = evaluation_batches(len(inputs), self.config.batching.size)
        for indices, tokens in hosts.map_over_hosts(search, batches):
            for i, caption in zip(indices, self.vocabulary.decode(tokens), strict=True):
                captions[i] = caption
        return captions

    @partial(jax.jit, static_argnames=("self", "width"))
    def _search(self, params, images, width, key=None):
        model, length = nnx.merge(self.graphdef, params), self.config.decode.length
        memory = model.encode(normalize(images))
        if key is not None:
            memory = model.with_sampling(memory, key)
        best, _ = beam_search(
            lambda last, cache, position: model.decode_step(last, cache, memory, position),
            model.init_cache(memory, width, length),
            jnp.full(len(images), length),
            length=length,
            width=width,
            length_penalty=self.config.decode.length_penalty,
            pad=PAD,
            bos=BOS,
            eos=EOS,
        )
        return best[:, 0]

    def _reference_metrics(self, params, images, key):
        """Compute perplexity and pointing accuracy, with teacher forcing on the references."""
        tokens = self.vocabulary.encode_captions(images.captions)
        nll, weights = self._read_all(params, images, tokens, key)
        values = {"perplexity": math.exp(min(nll / (tokens != PAD).sum(), 700.0))}
        if not self._has_pointing(images):
            return values
        pairs = np.indices(tokens.shape[:2]).reshape(2, -1)
        return values | self._pointing(images, weights.reshape(-1, *weights.shape[2:]), *pairs)

    def _generated_pointing(self, params, images, captions, key):
        """Compute the pointing accuracy on generated captions that equal a reference."""
        both = enumerate(zip(images.captions, captions, strict=True))
        pairs = [(n, x.index(y)) for n, (x, y) in both if y in x]
        if not (pairs and self._has_pointing(images)):
            return {}
        tokens = self.vocabulary.encode_captions([[caption] for caption in captions])
        _, weights = self._read_all(params, images, tokens, key)
        image, caption = np.transpose(pairs)
        values = self._pointing(images, weights[image, 0], image, caption)
        return {"pointing_generated": values["pointing"]}

    def _has_pointing(self, images):
        return images.grounding is not None and self._has_attention

    def _read_all(self, params, images, tokens, key):
        """Return the summed NLL of captions `[N, K, T]`; for pointing, also the weights."""
        pointing, nll = self._has_pointing(images), 0.0
        weights = np.zeros((*tokens.shape, math.prod(self.grid)), np.float32) if pointing else None

        def read(indices):
            batch_key = None if key is None else jax.random.fold_in(key, int(indices[0]))
            with mesh.evaluation_mesh(params) as shard:
                batch = shard({"image": images.inputs[indices], "caption": tokens[indices]})
                batch_nll, batch_weights = self._read(params, batch, batch_key)
                return indices, *jax.device_get((batch_nll, batch_weights if pointing else None))

        batches = evaluation_batches(len(tokens), self.config.batching.size)
        for indices, batch_nll, batch_weights in hosts.map_over_hosts(read, batches):
            nll += float(batch_nll[: len(np.unique(indices))].sum())
            if weights is not None:
                weights[indices] = batch_weights
        return nll, weights

    def _pointing(self, images, weights, image, caption):
        """Compute `metrics.pointing_accuracy` of the weights `[M, T, P]` at chosen references."""
        grounding = images.grounding
        objects, classes = grounding.word_objects, grounding.word_classes
        words = min(objects.shape[2], weights.shape[1])  # the longest caption has EOS in addition
        return metrics.pointing_accuracy(
            weights[:, :words],
            objects[image, caption, :words],
            classes[image, caption, :words],
            grounding.boxes[image],
            grid=self.grid,
            size=images.pixels[0].shape[0],
            classes=WORD_CLASSES,
            content=CONTENT_CLASSES,
        )

    @partial(jax.jit, static_argnames="self")
    def _read(self, params, batch, key=None):
        """Return the NLL and the attention weights of each caption of a batch."""
        model = nnx.merge(self.graphdef, params)
        memory = model.encode(normalize(batch["image"]))
        if key is not None:
            memory = model.with_sampling(memory, key)

        def read_caption(caption):
            states, alignment = model.decode(caption, memory)
            nll = -log_probs(states, model.output_embedding, caption)
            return jnp.where(caption != PAD, nll, 0.0).sum(-1), alignment.weights

        return jax.vmap(read_caption, 1, 1)(batch["caption"])

    # Figures and samples.

    def figures(self, state: TrainState) -> dict[str, Figure]:
        """Plot the attention weights at each word of the captions of a few test images."""
        figure = self._attention_figure(self.attention_maps(state))
        return {"attention": figure} if figure else {}

    def attention_maps(self, state: TrainState, inputs: Any = None) -> list[AttentionMap]:
        """Return the attention at each word of captions of test images, or of image files."""
        if inputs is not None:
            return self._caption_images(state.params, *read_files(inputs, self.config))[1]
        images = self.dataset[self.splits[0]]
        chosen = fixed_sample(len(images), EXAMPLES)
        pixels = [images.pixels[i] for i in chosen]
        return self._caption_images(state.params, images.inputs[chosen], pixels)[1]

    def _caption_images(self, params, inputs, pixels):
        """Return the captions of images, and the attention maps, if any, of the first of them."""
        captions = self.caption(params, inputs, self.config.decode.width)
        if not self._has_attention:
            return captions, []
        shown = captions[:IMAGES_SHOWN]
        tokens = self.vocabulary.encode_captions([[caption] for caption in shown])
        batch = {"image": inputs[:IMAGES_SHOWN], "caption": tokens}
        _, weights = self._read(params, batch)
        return captions, figures.caption_maps(
            list(pixels[:IMAGES_SHOWN]), shown, np.asarray(weights)[:, 0], self.grid
        )

    def _attention_figure(self, maps):
        """Plot the attention weights at each word of captions; `None` without attention."""
        if not maps:
            return None
        title = f"{self.config.name}: generated captions with the attention at each word"
        return figures.attention_over_words(
            [record.keys.image for record in maps],
            [record.queries.labels[:-1] for record in maps],
            [record.weights[0, 0].reshape(-1, *self.grid) for record in maps],
            title,
        )

    def caption_files(
        self, state: TrainState, paths: Sequence[Path]
    ) -> tuple[list[str], Figure | None]:
        """Generate captions of image files; see `tasks.base.ImageCaptioner`."""
        captions, maps = self._caption_images(state.params, *read_files(paths, self.config))
        return captions, self._attention_figure(maps)

    def samples(self, state: TrainState) -> str:
        """Format captions of a few test images with their references."""
        images = self.dataset[self.splits[0]]
        chosen = fixed_sample(len(images), 4)
        captions = self.caption(state.params, images.inputs[chosen], self.config.decode.width)
        lines = [
            f"  model      {caption}\n  reference  " + "\n             ".join(images.captions[i])
            for caption, i in zip(captions, chosen, strict=True)
        ]
        return "\n\n".join(lines)


def read_files(paths: Sequence[Path], config: Any) -> tuple[np.ndarray, np.ndarray]:
    """Read image files, cropped to a square; return the model's inputs and the pixels.

    Raises:
        UserError: if a file is not an image, or the weights of VGG are missing.
    """
    if config.model.encoder.kind == "residual":
        resolution = config.model.encoder.resolution
        images = [crop_and_resize(read_image(path, channels=3), resolution) for path in paths]
        return np.stack(images), np.stack(images)
    pixels = ImageFiles(paths, config.data.resolution)[np.arange(len(paths))]
    if not config.data.vgg_weights:
        return pixels, pixels
    network = vgg_encoder(config.data.vgg_weights).load()
    return np.concatenate([network(image[None]) for image in pixels]), pixels


def normalize(images: Array) -> Array:
    """Scale uint8 images to [-1, 1]; features are returned unchanged."""
    return images / 127.5 - 1.0 if images.dtype == jnp.uint8 else images
