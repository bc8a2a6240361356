"""SNAIL and RL²: equations, receptive fields, causality, and equality of full pass and step."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from models.snail.network import SNAIL, AttentionBlock, Backbone, DenseBlock, parse_blocks
from tests.commands import fast_compilation
from tests.models.tiny import with_random_params

B, T, CHANNELS, ACTIONS = 2, 4, 3, 5
KEY = jax.random.key(0)
INPUTS = jax.random.normal(jax.random.key(1), (B, T, CHANNELS))
BLOCKS = {"snail": "TC(3) Att(4,2) TC(2)", "rl2": "GRU(6)"}


@pytest.fixture(autouse=True, scope="module")
def _fast_compilation():
    with fast_compilation():
        yield


def make_snail(blocks, max_length=T):
    return SNAIL(
        inputs=CHANNELS,
        actions=ACTIONS,
        embedding=5,
        blocks=blocks,
        max_length=max_length,
        remat="none",
        key=KEY,
    )


@pytest.fixture(scope="module", params=BLOCKS)
def model(request):
    """Graph and random parameters; initial parameters have output heads of zero."""
    return nnx.split(with_random_params(lambda: make_snail(BLOCKS[request.param])))


@pytest.fixture(scope="module")
def jacobian(model):
    """Differentiate the outputs `[T, 2]` with respect to the parameters and the inputs."""
    graphdef, params = model

    def outputs(params, x):
        logits, values = nnx.merge(graphdef, params)(x)
        return jnp.stack([jnp.sum(logits**2, axis=(0, 2)), jnp.sum(values**2, axis=0)], axis=-1)

    return jax.device_get(jax.jit(jax.jacrev(outputs, argnums=(0, 1)))(params, INPUTS))


def test_step_matches_whole_sequence(model):
    graphdef, params = model
    step = jax.jit(lambda params, x, cache: nnx.merge(graphdef, params).step(x, cache))
    cache, steps = nnx.merge(graphdef, params).init_cache(B), []
    for t in range(T):
        *outputs, cache = step(params, INPUTS[:, t], cache)
        steps.append(outputs)
    expected = jax.jit(lambda params, x: nnx.merge(graphdef, params)(x))(params, INPUTS)
    for stepped, whole in zip(zip(*steps, strict=True), expected, strict=True):
        np.testing.assert_allclose(np.stack(stepped, axis=1), whole, rtol=1e-5, atol=1e-5)


def test_outputs_depend_on_all_past_and_no_future_inputs(jacobian):
    sensitivity = np.abs(jacobian[1]).sum((2, 4)).transpose(1, 0, 2)  # [output, T, T]
    np.testing.assert_array_equal(np.triu(sensitivity, 1), 0.0)
    assert np.all(sensitivity[:, *np.tril_indices(T)] > 0)


def test_gradients_reach_every_parameter(jacobian):
    for path, gradient in nnx.to_flat_state(jacobian[0]):
        gradient = gradient[...]
        assert np.all(np.isfinite(gradient)) and np.any(gradient != 0), path


@pytest.mark.parametrize("max_length", [2, 3, 8, 9, 100, 250, 1000])
def test_receptive_field_of_one_tc_block_covers_the_sequence(max_length):
    create = lambda: Backbone(width=1, blocks="TC(1)", max_length=max_length, key=KEY)
    backbone = nnx.eval_shape(create)
    receptive_field = 1 + sum(block.dilation for block in backbone.blocks)
    assert max_length <= receptive_field < 2 * max_length


def test_tc_block_depends_on_the_first_step():
    backbone = with_random_params(lambda: Backbone(width=1, blocks="TC(2)", max_length=8, key=KEY))
    last_features = lambda x: jnp.sum(backbone(x)[0][0, -1, 1:])
    gradient = jax.jit(jax.grad(last_features))(jnp.ones((1, 8, 1)))
    assert np.all(np.abs(gradient) > 0)


def test_dense_block_matches_its_equation():
    """`[x_t, tanh(W0 x_{t-R} + W1 x_t + b) * sigmoid(V0 x_{t-R} + V1 x_t + c)]`."""
    block = with_random_params(lambda: DenseBlock(CHANNELS, 2, dilation=3, key=KEY))
    # Axes: input channel, past or present, filter or gate, output channel.
    kernel = np.asarray(block.kernel[...]).reshape(CHANNELS, 2, 2, 2)
    bias, inputs = np.asarray(block.bias[...]).reshape(2, 2), np.asarray(INPUTS)
    outputs = jax.jit(lambda x: block(x))(INPUTS)
    for t in range(T):
        present, past = inputs[:, t], inputs[:, t - 3] if t >= 3 else np.zeros((B, CHANNELS))
        f, g = (past @ kernel[:, 0, i] + present @ kernel[:, 1, i] + bias[i] for i in (0, 1))
        expected = np.concatenate([present, np.tanh(f) / (1 + np.exp(-g))], axis=-1)
        np.testing.assert_allclose(outputs[:, t], expected, rtol=1e-5, atol=1e-6)


def test_attention_block_matches_its_equation():
    block = with_random_params(lambda: AttentionBlock(CHANNELS, 4, 2, max_length=T, key=KEY))
    outputs, weights = jax.jit(lambda x: block(x))(INPUTS)
    projected = np.asarray(INPUTS @ block.kernel[...] + block.bias[...])
    q, k, v = projected[..., :4], projected[..., 4:8], projected[..., 8:]
    for t in range(T):
        logits = np.einsum("bk,bsk->bs", q[:, t], k[:, : t + 1]) / 2.0
        softmax = np.exp(logits) / np.exp(logits).sum(-1, keepdims=True)
        np.testing.assert_allclose(weights[:, t, : t + 1], softmax, rtol=1e-5, atol=1e-6)
        contexts = np.einsum("bs,bsv->bv", softmax, v[:, : t + 1])
        np.testing.assert_allclose(outputs[:, t, CHANNELS:], contexts, rtol=1e-4, atol=1e-5)


def test_output_width_matches_the_paper():
    """A TC block adds its filters ceil(log2 T) times; an attention block adds its values."""
    blocks = "Att(64,32) TC(128) Att(256,128) TC(128) Att(512,256)"  # few-shot classification
    backbone = nnx.eval_shape(lambda: Backbone(width=69, blocks=blocks, max_length=26, key=KEY))
    assert backbone.width == 69 + 32 + 5 * 128 + 128 + 5 * 128 + 256


def step_flops(create):
    graphdef, params = nnx.split(nnx.eval_shape(create))
    model = nnx.merge(graphdef, params)
    step = lambda params, *arguments: nnx.merge(graphdef, params).step(*arguments)
    cache = jax.eval_shape(lambda: model.init_cache(B))
    arguments = (cache,) if isinstance(model, SNAIL) else (cache, jnp.int32(0))
    return jax.jit(step).lower(params, INPUTS[:, 0], *arguments).cost_analysis()["flops"]


def test_step_flops_of_attention_grow_by_one_key_and_value():
    # The network has no TC block, whose number of dense blocks grows with the sequence length.
    short, long = (step_flops(lambda n=n: make_snail("Att(4,2)", max_length=n)) for n in (64, 128))
    assert long - short <= 64 * B * (2 * 4 + 2 * 2 + 16)  # two products and a softmax


def test_step_flops_of_dense_block_do_not_depend_on_dilation():
    near, far = (
        step_flops(lambda n=n: DenseBlock(CHANNELS, 2, dilation=n, key=KEY)) for n in (4, 4096)
    )
    assert near == far


@pytest.mark.parametrize(
    "blocks",
    ["TC", "TC(3,4)", "Att(32)", "TC(8),TC(8)", "Conv(3)", "Att(3, 4)", "TC(0)", "Att(0,4)"],
)
def test_invalid_block_is_rejected(blocks):
    with pytest.raises(ValueError, match="invalid block '.*': write blocks like"):
        parse_blocks(blocks)


def test_model_without_blocks_is_rejected():
    with pytest.raises(ValueError, match="blocks is empty"):
        parse_blocks(" ")
