"""Encoders of images: shapes, receptive fields, and rejected options."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from models.captioner.encoders import make_encoder
from tests.models.tiny import unoptimized_jit

OPTIONS = {"kind": "residual", "resolution": 16, "channels": 3, "widths": (4, 4, 8)}


def create(**options):
    options = OPTIONS | options
    return make_encoder(key=jax.random.key(0), dtype=jnp.dtype("float32"), **options)


def test_annotations_see_a_part_of_the_image_and_know_their_position():
    encoder = create(resolution=32, widths=(4, 8))
    graphdef, params = nnx.split(encoder)
    encode = unoptimized_jit(lambda images: nnx.merge(graphdef, params)(images))
    images = np.zeros((2, 32, 32, 3), np.float32)
    images[1, 30:, 30:] = 1.0
    without, with_corner = encode(images)
    assert without.shape == (64, 8)
    changed = ~np.isclose(without, with_corner, atol=1e-6).all(-1).reshape(8, 8)
    assert changed[7, 7]
    assert not changed[:4].any()
    assert not changed[:, :4].any()
    # The image is constant, so away from the borders only the position embedding differs.
    difference = (without - encoder.position[...]).reshape(8, 8, -1)
    np.testing.assert_allclose(difference[3, 3], difference[4, 4], atol=1e-5)
    assert not np.allclose(without.reshape(8, 8, -1)[3, 3], without.reshape(8, 8, -1)[4, 4])


@pytest.mark.parametrize(
    "options, message",
    [
        ({"resolution": 20}, "must be a multiple of"),
        ({"widths": ()}, "must be a multiple of"),
        ({"kind": "vgg"}, "must be residual or features"),
    ],
)
def test_invalid_options_are_rejected(options, message):
    with pytest.raises(ValueError, match=message):
        nnx.eval_shape(lambda: create(**options))
