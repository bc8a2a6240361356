"""A network of images in groups, compared with the network applied to all images at once."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from models import cache_blocking, device_batch
from models.cache_blocking import keep, map_images
from models.layers import param
from models.snail.few_shot import dropout_of_images
from tests.models.tiny import unoptimized_jit
from training import flops, mesh

KEY = jax.random.key(0)


class Network(nnx.Module):
    def __init__(self):
        self.kernel = param(jax.random.normal(KEY, (3 * 3, 5)), (None, None))

    def __call__(self, images, keys=None):
        features = jnp.tanh(images.reshape(len(images), -1) @ self.kernel[...])
        return dropout_of_images(features, 0.5, keys, 0)


@pytest.fixture(autouse=True)
def groups_of_up_to_four(monkeypatch):
    monkeypatch.setattr(cache_blocking, "GROUP_SIZE", 4)


def sample_images(count):
    return jax.random.normal(jax.random.key(1), (count, 3, 3, 1))


@pytest.mark.parametrize("count", [6, 7, 8])  # groups of 3, 4 and 4; one is filled
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


@pytest.mark.parametrize("count", [7, 8])
def test_dropout_does_not_depend_on_the_groups(count):
    images, network = sample_images(count), Network()
    expected = network(images, device_batch.example_keys(KEY, count))
    np.testing.assert_allclose(map_images(network, images, KEY), expected, rtol=1e-5)
    kept = expected != 0
    assert (kept[0] != kept[1]).any()  # each image has its own mask


def test_backward_pass_computes_products_again_unless_they_are_kept():
    images, kernel = sample_images(8), jnp.ones((9, 5))

    class Product(nnx.Module):
        def __init__(self, kernel, mark):
            self.kernel, self.mark = nnx.Param(kernel), mark

        def __call__(self, images, keys=None):
            return jnp.tanh(self.mark(images.reshape(len(images), -1) @ self.kernel[...]))

    def products(mark):
        loss = lambda kernel: map_images(Product(kernel, mark), images).sum()
        jaxpr = jax.make_jaxpr(jax.value_and_grad(loss))(kernel)
        return flops.count(jaxpr) / (2 * 8 * kernel.size)

    # The output, the gradient of the kernel, and without `keep` the output again.
    assert products(keep) == 2
    assert products(lambda x: x) == 3


def test_batch_axes_are_those_of_the_mesh():
    assert device_batch.BATCH_AXES == mesh.BATCH_AXES
