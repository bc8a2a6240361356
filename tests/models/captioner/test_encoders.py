"""Encoders of images: shapes, receptive fields, and rejected options."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from models.captioner.encoders import make_encoder, patches
from tests.models.tiny import unoptimized_jit

OPTIONS = {"kind": "residual", "resolution": 16, "channels": 3, "patch": 2, "widths": (4, 8)}


def create(**options):
    options = OPTIONS | options
    return make_encoder(key=jax.random.key(0), dtype=jnp.dtype("float32"), **options)


def test_annotations_have_limited_receptive_fields_and_position_embeddings():
    encoder = create(resolution=32)
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
        ({"patch": 3}, "first, 6"),
        ({"resolution": 18}, "first, 4"),
        ({"widths": ()}, "must be a multiple of"),
        ({"kind": "vgg"}, "must be residual or features"),
    ],
)
def test_invalid_options_are_rejected(options, message):
    with pytest.raises(ValueError, match=message):
        nnx.eval_shape(lambda: create(**options))


def test_patches_are_blocks_of_pixels():
    images = np.arange(2 * 4 * 4 * 3, dtype=np.float32).reshape(2, 4, 4, 3)
    divided = patches(jnp.asarray(images), 2)
    assert divided.shape == (2, 2, 2, 12)
    np.testing.assert_array_equal(divided[1, 0, 1], images[1, :2, 2:].reshape(-1))


def test_features_of_another_shape_are_rejected():
    encoder = make_encoder(
        kind="features", grid=(2, 3), width=4, dtype=jnp.dtype("float32"), key=jax.random.key(0)
    )
    maps = np.random.default_rng(0).normal(size=(5, 2, 3, 4)).astype(np.float32)
    np.testing.assert_array_equal(encoder(jnp.asarray(maps)), maps.reshape(5, 6, 4))
    for shape in ((5, 3, 3, 4), (5, 6, 5), (5, 24)):
        with pytest.raises(ValueError, match=r"encoder.grid=\(2, 3\) and encoder.width=4 do not"):
            encoder(jnp.zeros(shape))
