"""What measures say of drawn images that are the real ones, or one of these again and again."""

import jax.numpy as jnp
import numpy as np
import pytest

from models.classifier import Seen
from models.sagan.networks import Generated
from tasks.image_generation.data.augment import Augment
from tasks.image_generation.data.images import Held, to_float
from tasks.image_generation.evaluation import Judge
from tasks.image_generation.features import Network

COUNT, ROWS = 48, 20
CLASSES = ("a", "b")


def held(seed, darkest):
    """Images with half of all shades, in random classes."""
    rng = np.random.default_rng(seed)
    images = rng.integers(darkest, darkest + 128, (COUNT, 4, 4, 1), np.uint8)
    return Held(images, rng.integers(0, 2, COUNT, np.int32), CLASSES)


IMAGES = {"train": held(0, darkest=0), "test": held(1, darkest=128)}


def measures(split, images, labels):
    """Of these, drawn one after another, where these are the classes that must be asked for."""
    judge = Judge(
        IMAGES,
        Augment(0.0, 0.0, 0.0, False),
        "",
        True,
        samples=COUNT,
        rows=ROWS,
        neighbours_among=COUNT,
        inception_weights="",
        classifier={},
    )
    pixels = lambda x: Seen(jnp.reshape(x, (len(x), -1)), jnp.zeros((len(x), len(CLASSES))))
    judge._network = Network(pixels, "", judges=False)
    begins = iter(range(0, COUNT, ROWS))

    def draw(key, asked):
        rows = np.arange(ROWS) + next(begins)
        told = np.asarray(asked)[rows < COUNT]
        np.testing.assert_array_equal(told, labels[rows[rows < COUNT]])
        return Generated(jnp.asarray(to_float(images[rows % COUNT])), (), None)

    return judge.measures(draw, split)


@pytest.mark.parametrize(
    ("split", "real"), [("train", "train"), ("dev", "train"), ("test", "test")]
)
def test_real_images_are_as_good_as_real_ones(split, real):
    """Those of the test beside the held out, which are not at all like those trained on."""
    found = measures(split, IMAGES[real].images, IMAGES[real].labels)
    assert found["fid"] == pytest.approx(0.0, abs=1e-6)
    assert found["precision"] == found["recall"] == 1.0
    assert found["diversity"] == pytest.approx(1.0)


def test_one_real_image_again_and_again_is_true_but_not_diverse():
    real = IMAGES["test"]
    found = measures("test", np.broadcast_to(real.images[:1], real.images.shape), real.labels)
    assert found["precision"] == 1.0 and found["recall"] <= 1 / COUNT
    assert found["diversity"] == pytest.approx(0.0, abs=1e-9)
    assert found["fid"] > 1.0
