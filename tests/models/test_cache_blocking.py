"""A network of images in groups, compared with the network applied to all images at once."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from models import device_batch
from models.cache_blocking import map_images
from models.layers import param
from models.snail.few_shot import dropout_of_images
from tests.models.tiny import unoptimized_jit
from training import mesh

KEY = jax.random.key(0)


class Network(nnx.Module):
    def __init__(self):
        self.kernel = param(jax.random.normal(KEY, (3 * 3, 5)), (None, None))

    def __call__(self, images, keys=None):
        features = jnp.tanh(images.reshape(len(images), -1) @ self.kernel[...])
        return dropout_of_images(features, 0.5, keys, 0)


def sample_images(count):
    return jax.random.normal(jax.random.key(1), (count, 3, 3, 1))


@pytest.mark.parametrize("count", [6, 7, 8])  # groups of 3, 1 and 4
def test_groups_have_the_outputs_and_gradients_of_the_batch(count):
    images = sample_images(count)
    graphdef, params = nnx.split(Network())

    def results(embed):
        def loss(params):
            x = embed(nnx.merge(graphdef, params), images)
            return jnp.sum(x * jnp.arange(x.size).reshape(x.shape)), x

        return unoptimized_jit(jax.grad(loss, has_aux=True))(params)

    expected = results(lambda network, images: network(images))
    for actual, array in zip(*map(jax.tree.leaves, (results(map_images), expected)), strict=True):
        np.testing.assert_allclose(actual, array, rtol=1e-5, atol=1e-4)


@pytest.mark.parametrize("count", [6, 8])  # groups of 3 and 4
def test_dropout_does_not_depend_on_the_groups(count):
    images, network = sample_images(count), Network()
    expected = network(images, device_batch.example_keys(KEY, count))
    np.testing.assert_allclose(map_images(network, images, KEY), expected, rtol=1e-5)
    kept = expected != 0
    assert (kept[0] != kept[1]).any()  # each image has its own mask


def test_batch_axes_are_those_of_the_mesh():
    assert device_batch.BATCH_AXES == mesh.BATCH_AXES
