"""Few-shot classifier."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from models.snail.few_shot import ConvolutionalEmbedding, FewShotClassifier, ResidualBlock
from models.snail.network import AttentionBlock
from tests.models.tiny import unoptimized_jit, with_random_params

KEY = jax.random.key(0)
SIZES = {"ways": 2, "size": 16, "channels": 1, "filters": 4, "embedding": 6, "dropout": 0.5}
BODY = {
    "label_scale": 1.0,
    "blocks": "Att(4,4) TC(4)",
    "tied_init": 0.0,
    "max_length": 5,
    "remat": "none",
}


def create(encoder="convolutional", **changes):
    return FewShotClassifier(encoder=encoder, **SIZES | BODY | changes, key=KEY)


def normalized_convolution(x, kernel, norm):
    """Convolution, then layer normalization over the filters."""
    x = jax.lax.conv_general_dilated(
        x, kernel[...], (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC")
    )
    x = (x - x.mean(-1, keepdims=True)) / jnp.sqrt(x.var(-1, keepdims=True) + norm.epsilon)
    return x * norm.gain[...] + norm.bias[...]


def pool(x):
    return jax.lax.reduce_window(x, -jnp.inf, jax.lax.max, (1, 2, 2, 1), (1, 2, 2, 1), "VALID")


def convolutional_embedding(network, x):
    for kernel, norm in zip(network.kernels, network.norms, strict=True):
        x = pool(jax.nn.relu(normalized_convolution(x, kernel, norm)))
    return x.reshape(len(x), -1) @ network.output[...] + network.output_bias[...]


def residual_block(network, x):
    y = x
    for kernel, norm in zip(network.kernels, network.norms, strict=True):
        y = jax.nn.leaky_relu(normalized_convolution(y, kernel, norm), 0.1)
    return pool(y + jnp.einsum("byxc,cd->byxd", x, network.shortcut[...]))


@pytest.mark.parametrize(
    "create, definition",
    [
        (
            partial(ConvolutionalEmbedding, 18, 1, 4, 6, dropout=0.0, key=KEY),
            convolutional_embedding,
        ),
        (partial(ResidualBlock, 1, 3, key=KEY), residual_block),
    ],
)
def test_embedding_has_the_values_and_gradients_of_its_definition(create, definition):
    graphdef, params = nnx.split(with_random_params(create))
    images = jax.random.normal(KEY, (3, 18, 18, 1))

    @unoptimized_jit
    def evaluate(params):
        def weighted(params, apply):
            x = apply(nnx.merge(graphdef, params), images)
            return jnp.sum(x * jnp.cos(jnp.arange(x.size)).reshape(x.shape)), x

        derive = jax.grad(weighted, has_aux=True)
        return derive(params, lambda network, x: network(x)), derive(params, definition)

    actual, expected = map(jax.tree.leaves, evaluate(params))
    for x, y in zip(actual, expected, strict=True):
        np.testing.assert_allclose(x, y, rtol=1e-3, atol=1e-4)


def test_queries_do_not_depend_on_each_other():
    """Logits of several queries equal the logits of each of them alone."""
    graphdef = nnx.graphdef(nnx.eval_shape(create))
    images = jax.random.uniform(KEY, (3, 4 + 2, 16, 16, 1))
    labels = jnp.array([[0, 0, 1, 1], [0, 1, 1, 0], [1, 0, 1, 0]])

    @unoptimized_jit
    def classify():
        params = jax.tree.map(lambda x: x + 0.1, nnx.state(create()))  # the output starts at zero
        classifier = nnx.merge(graphdef, params)
        parts = [images[:, [0, 1, 2, 3, 4 + query]] for query in range(2)]
        return classifier(images, labels), [classifier(part, labels) for part in parts]

    (logits, (weights,)), alone = classify()
    assert logits.shape == (3, 2, 2) and weights.shape == (3, 2, 5, 5)
    assert np.ptp(logits) > 0
    for query, (query_logits, (query_weights,)) in enumerate(alone):
        np.testing.assert_allclose(logits[:, [query]], query_logits, rtol=1e-4, atol=1e-5)
        np.testing.assert_allclose(weights[:, [query]], query_weights, rtol=1e-4, atol=1e-5)


def test_residual_embedding_has_the_sizes_of_the_paper():
    """Maps of 84, 42, 21, 11 and 6 pixels; 64, 96, 128, 256 filters; 2,048 and 384 channels."""
    sizes = {"ways": 5, "size": 84, "channels": 3, "filters": 64, "embedding": 384, "dropout": 0.1}
    model = nnx.eval_shape(lambda: create("residual", **sizes))
    filters, inputs, expected = (64, 96, 128, 256), 3, 0
    for outputs, block in zip(filters, model.embedding.blocks, strict=True):
        expected += 9 * inputs * outputs + 2 * 9 * outputs**2 + inputs * outputs + 6 * outputs
        assert block.shortcut.shape == (inputs, outputs)
        inputs = outputs
    expected += 256 * 2048 + 2048 + 2048 * 384 + 384
    assert sum(x.size for x in jax.tree.leaves(nnx.state(model.embedding))) == expected

    graphdef, params = nnx.split(model)

    def last_map(params, x):
        for block in nnx.merge(graphdef, params).embedding.blocks:
            x = block(x)
        return x

    images = jax.ShapeDtypeStruct((2, 84, 84, 3), jnp.float32)
    assert jax.eval_shape(last_map, params, images).shape == (2, 6, 6, 256)


def test_residual_embedding_has_a_nonlinearity_before_the_last_layer():
    """Two linear layers would be one; with negative inputs, a ReLU leaves the bias only."""

    @unoptimized_jit
    def embed(images):
        embedding = create("residual").embedding
        embedding.wide_bias[...] = jnp.full_like(embedding.wide_bias[...], -1e3)
        embedding.output_bias[...] = jnp.arange(6.0)
        return embedding(images)

    np.testing.assert_array_equal(embed(np.ones((2, 16, 16, 1))), [np.arange(6.0)] * 2)


@pytest.mark.slow
@pytest.mark.parametrize("encoder", ["convolutional", "residual"])
def test_dropout_needs_a_key(encoder):
    images = jnp.ones((1, 16, 16, 1))
    embed = create(encoder).embedding
    np.testing.assert_array_equal(embed(images), embed(images))
    assert np.abs(embed(images, KEY[None]) - embed(images)).max() > 0


def test_tied_queries_and_keys_attend_to_equal_steps():
    block = AttentionBlock(6, 4, 3, max_length=4, key=KEY, tied_init=0.5)
    kernel = np.asarray(block.kernel[...])
    np.testing.assert_array_equal(kernel[:, :4], kernel[:, 4:8])
    independent = AttentionBlock(6, 4, 3, max_length=4, key=KEY)
    np.testing.assert_array_equal(kernel[:, :4], 0.5 * np.asarray(independent.kernel[...])[:, :4])
    np.testing.assert_array_equal(kernel[:, 8:], np.asarray(independent.kernel[...])[:, 8:])


def test_unknown_encoder_is_rejected():
    with pytest.raises(ValueError, match="unknown encoder 'vgg': choose convolutional or residual"):
        create("vgg")
