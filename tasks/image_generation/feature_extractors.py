"""Networks that compute the features and logits for the image metrics."""

import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx
from jaxtyping import Array, Float

from models import inception
from models.classifier import Classifier, ClassifierOutput
from tasks.files import digest
from tasks.image_generation.data.augment import Augmentation, preprocess
from tasks.image_generation.data.batching import (
    THREADS,
    RandomBatches,
    sequential_batches,
    to_float,
)
from tasks.image_generation.data.sources import ImageSource
from tasks.torch_weights import WeightFile
from training.files import atomic_write, suppress_read_only
from training.prefetch import prefetch

CLASSIFIER_FILE = "classifier.npz"  # in the run directory
CLASSIFIER_SUFFIX = "_classifier"  # of the metrics
INCEPTION_FILE = WeightFile(  # the weights that published FIDs use
    "pt_inception-2015-12-05-6726825d.pth",
    "6726825d",
    "https://github.com/mseitzer/pytorch-fid/releases/tag/fid_weights",
)


class FeatureExtractor(NamedTuple):
    """Trained network and its role in the evaluation.

    Attributes:
        apply: maps images in [-1, 1] to features and logits.
        suffix: suffix of the metric names: '_classifier', or '' for Inception.
        predicts_labels: whether the logits are for the classes of the dataset.
        accuracy: accuracy of the predicted labels on the real test images.
    """

    apply: Callable[[Float[Array, "B R R C"]], ClassifierOutput]
    suffix: str
    predicts_labels: bool
    accuracy: float = float("nan")


def load_inception(file: str) -> FeatureExtractor:
    """Load Inception v3 with the standard weights of the FID.

    Args:
        file: path of `INCEPTION_FILE`.

    Raises:
        UserError: if the file does not exist, or contains other weights.
    """
    state_dict = INCEPTION_FILE.read(file, key="evaluation.inception_weights")
    weights = {weight: jnp.asarray(state_dict[weight]) for weight in inception.weight_shapes()}
    compiled = jax.jit(inception.apply)

    def apply(images):
        grayscale = images.shape[-1] == 1
        return compiled(weights, jnp.repeat(images, 3, axis=-1) if grayscale else images)

    return FeatureExtractor(apply, "", predicts_labels=False)


def load_classifier(
    images: Mapping[str, ImageSource],
    augmentation: Augmentation,
    workdir: str,
    *,
    width: int,
    features: int,
    steps: int,
    batch: int,
    learning_rate: float,
) -> FeatureExtractor:
    """Load the classifier of the real images from the run directory, or train it.

    The classifier depends on the dataset and the arguments, not on the seed of the run, so all runs
    of a comparison train the same classifier, up to rounding on different hardware. If dataset or
    arguments change, it is trained again.

    Args:
        images: the split `train` for training, and `test` for the accuracy.
        augmentation: augmentation of the training images.
        workdir: run directory, where the weights are stored.
        width: see `models.classifier.Classifier`.
        features: see `models.classifier.Classifier`.
        steps: number of training steps.
        batch: number of images per step.
        learning_rate: initial learning rate of Adam, with cosine decay to zero.
    """
    train = images["train"]
    shape = train[0][0].shape
    create = lambda: Classifier(
        resolution=shape[0],
        channels=shape[-1],
        classes=len(train.classes),
        width=width,
        features=features,
        key=jax.random.key(2019),
    )
    graphdef = nnx.graphdef(nnx.eval_shape(create))
    apply = jax.jit(lambda params, images: nnx.merge(graphdef, params)(images))
    path = Path(workdir, CLASSIFIER_FILE)
    options = repr((augmentation, width, features, steps, batch, learning_rate))
    origin = digest(x.encode() for x in (*(y.fingerprint() for y in images.values()), options))
    params, accuracy = _read(path, jax.eval_shape(lambda: nnx.state(create())), origin)
    if params is None:
        params = jax.jit(lambda: nnx.state(create()))()
        batches = RandomBatches(train, min(batch, len(train)), seed=2019)
        params = _train(graphdef, params, batches, augmentation, steps, learning_rate)
        accuracy = _accuracy(lambda x: apply(params, x), images["test"], batch)
        with suppress_read_only(), atomic_write(path) as file:
            leaves = map(np.asarray, jax.tree.leaves(params))
            np.savez(file, *leaves, accuracy=accuracy, origin=origin)
    return FeatureExtractor(lambda x: apply(params, x), CLASSIFIER_SUFFIX, True, accuracy)


def _train(graphdef, params, batches, augmentation, steps, learning_rate):
    """Train the classifier on augmented images and return its parameters."""
    tx = optax.adam(optax.cosine_decay_schedule(learning_rate, steps))

    def step(carry, batch, key):
        params, opt_state = carry
        images = preprocess(batch["image"], augmentation, key)

        def loss(params):
            logits = nnx.merge(graphdef, params)(images).logits
            return optax.softmax_cross_entropy_with_integer_labels(logits, batch["label"]).mean()

        updates, opt_state = tx.update(jax.grad(loss)(params), opt_state, params)
        return optax.apply_updates(params, updates), opt_state

    step = jax.jit(step, donate_argnums=0)
    carry = params, tx.init(params)
    iterator = prefetch(batches, threads=THREADS)
    for n in range(steps):
        carry = step(carry, next(iterator), jax.random.fold_in(jax.random.key(2019), n))
    iterator.close()
    return carry[0]


def _accuracy(apply, images, batch_size):
    """Accuracy on all images of a split, without augmentation."""
    correct = 0
    for batch, count in sequential_batches(images, batch_size, len(images)):
        logits = apply(jnp.asarray(to_float(batch["image"]))).logits
        correct += int((np.argmax(logits, -1) == batch["label"])[:count].sum())
    return correct / len(images)


def _read(path, abstract, origin) -> tuple[Any, float]:
    """Read the weights and the accuracy, or (None, nan) if no file has weights of these shapes.

    The file must have the digest `origin` of the dataset and the arguments. Files of version 0.1.0
    have no digest.
    """
    try:
        with np.load(path) as file:
            leaves = [file[f"arr_{n}"] for n in range(len(jax.tree.leaves(abstract)))]
            accuracy = float(file["accuracy"])
            matches = str(file.get("origin", origin)) == origin
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile):
        return None, float("nan")
    shapes = [x.shape for x in jax.tree.leaves(abstract)]
    if [x.shape for x in leaves] != shapes or not matches:
        return None, float("nan")
    return jax.tree.unflatten(jax.tree.structure(abstract), map(jnp.asarray, leaves)), accuracy
