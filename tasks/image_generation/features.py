"""Networks that look at images so that sets of these can be compared."""

import hashlib
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
from models.classifier import Classifier, Seen
from tasks.image_generation import torch_file
from tasks.image_generation.data.augment import Augment, prepare
from tasks.image_generation.data.images import (
    THREADS,
    Images,
    RandomBatches,
    first_batches,
    to_float,
)
from training.errors import UserError
from training.files import replacing
from training.prefetch import prefetch

FILE = "classifier.npz"  # in the folder of a run
# pt_inception-2015-12-05-6726825d.pth, the weights behind published figures; the digits at the end
# of its name are the first of its SHA-256.
INCEPTION = "6726825d"
INCEPTION_URL = "https://github.com/mseitzer/pytorch-fid/releases/tag/fid_weights"


class Network(NamedTuple):
    """What looks.

    Attributes:
        see: features and logits of images in [-1, 1].
        suffix: what its measures are called besides: '_classifier', or '' for the standard one.
        judges: whether its logits are of the data's own classes.
        accuracy: of those on real images of the test, where it judges.
    """

    see: Callable[[Float[Array, "B R R C"]], Seen]
    suffix: str
    judges: bool
    accuracy: float = float("nan")


def pretrained(file: str) -> Network:
    """Inception v3 with the standard weights of FID.

    Args:
        file: pt_inception-2015-12-05-6726825d.pth.

    Raises:
        UserError: if it is not there, or another.
    """
    path = Path(file).expanduser()
    name = f"pt_inception-2015-12-05-{INCEPTION}.pth"
    if not path.is_file():
        raise UserError(
            f"evaluation.inception_weights={file!r} is not there: get {name} from {INCEPTION_URL}"
        )
    with path.open("rb") as opened:
        digest = hashlib.file_digest(opened, "sha256").hexdigest()
    if not digest.startswith(INCEPTION):
        raise UserError(
            f"{path} is not {name}, as its SHA-256 begins with {digest[:8]}: get it from "
            f"{INCEPTION_URL}"
        )
    found = torch_file.read(path)
    weights = {weight: jnp.asarray(found[weight]) for weight in inception.shapes()}
    run = jax.jit(inception.see)

    def see(images):
        grey = images.shape[-1] == 1
        return run(weights, jnp.repeat(images, 3, axis=-1) if grey else images)

    return Network(see, "", judges=False)


def classifier(
    images: Mapping[str, Images],
    augment: Augment,
    workdir: str,
    *,
    width: int,
    features: int,
    steps: int,
    rows: int,
    learning_rate: float,
) -> Network:
    """A classifier trained on the real images, or the one that an earlier process trained.

    It depends on the data and on its own sizes alone, not on the run's seed, so that all runs of a
    comparison are seen by the same.

    Args:
        images: `train` to learn from, `test` to say how well it does.
        augment: how the images are changed.
        workdir: the run's folder, where it is kept.
        width: see `models.classifier.Classifier`.
        features: the same.
        steps: of training.
        rows: of a batch.
        learning_rate: of Adam at the start; it falls to zero as a cosine.
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
    see = jax.jit(lambda params, images: nnx.merge(graphdef, params)(images))
    path = Path(workdir, FILE)
    params, accuracy = _read(path, jax.eval_shape(lambda: nnx.state(create())))
    if params is None:
        rng = RandomBatches(train, min(rows, len(train)), seed=2019)
        params = _train(
            graphdef, jax.jit(lambda: nnx.state(create()))(), rng, augment, steps, learning_rate
        )
        accuracy = _accuracy(lambda x: see(params, x), images["test"], rows)
        with replacing(path) as file:
            np.savez(file, *map(np.asarray, jax.tree.leaves(params)), accuracy=accuracy)
    return Network(lambda x: see(params, x), "_classifier", True, accuracy)


def _train(graphdef, params, batches, augment, steps, learning_rate):
    """Cross-entropy on changed images."""
    tx = optax.adam(optax.cosine_decay_schedule(learning_rate, steps))

    def step(carry, batch, key):
        params, opt_state = carry
        images = prepare(batch["image"], augment, key)

        def loss(params):
            logits = nnx.merge(graphdef, params)(images).logits
            return optax.softmax_cross_entropy_with_integer_labels(logits, batch["label"]).mean()

        updates, opt_state = tx.update(jax.grad(loss)(params), opt_state, params)
        return optax.apply_updates(params, updates), opt_state

    step = jax.jit(step, donate_argnums=0)
    carry = params, tx.init(params)
    found = prefetch(batches, threads=THREADS)
    for n in range(steps):
        carry = step(carry, next(found), jax.random.fold_in(jax.random.key(2019), n))
    found.close()
    return carry[0]


def _accuracy(see, images, rows):
    """Share of the images, unchanged, that are told rightly."""
    right = 0
    for batch, count in first_batches(images, rows, len(images)):
        logits = see(jnp.asarray(to_float(batch["image"]))).logits
        right += int((np.argmax(logits, -1) == batch["label"])[:count].sum())
    return right / len(images)


def _read(path, abstract) -> tuple[Any, float]:
    """The weights and the accuracy on file, or (None, nan) if there are none of these shapes."""
    try:
        with np.load(path) as file:
            leaves = [file[f"arr_{n}"] for n in range(len(jax.tree.leaves(abstract)))]
            accuracy = float(file["accuracy"])
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile):
        return None, float("nan")
    shapes = [x.shape for x in jax.tree.leaves(abstract)]
    if [x.shape for x in leaves] != shapes:
        return None, float("nan")
    return jax.tree.unflatten(jax.tree.structure(abstract), map(jnp.asarray, leaves)), accuracy
