"""SNAIL and RL²: two ways through the same weights, what they can see, and by hand."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from models.snail.network import SNAIL, AttentionBlock, Body, DenseBlock, parse
from tests.commands import fast_compilation


@pytest.fixture(autouse=True, scope="module")
def _quickly():
    with fast_compilation():
        yield


B, T, CHANNELS, A = 2, 7, 3, 4
KEY = jax.random.key(0)
INPUTS = jax.random.normal(jax.random.key(1), (B, T, CHANNELS))
SIZES = {"inputs": CHANNELS, "actions": A, "key": KEY}


def shaken(model):
    """Weights other than the first ones, of which some are zero."""
    graphdef, params = nnx.split(model)
    noise = lambda x: x + 0.3 * jax.random.normal(jax.random.fold_in(KEY, x.size), x.shape)
    return nnx.merge(graphdef, jax.tree.map(noise, params))


def snail(blocks="TC(3) Att(4,2) TC(2)"):
    return shaken(SNAIL(embedding=5, blocks=blocks, longest=T, **SIZES))


MODELS = {"snail": snail, "rl2": lambda: snail("GRU(6)")}
each = pytest.mark.parametrize("model", MODELS)


@each
def test_a_step_at_a_time_is_the_whole_sequence_at_once(model):
    model = MODELS[model]()
    step = jax.jit(lambda x, cache: model.step(x, cache))
    cache, logits, values = model.init_cache(B), [], []
    for t in range(T):
        x, v, cache = step(INPUTS[:, t], cache)
        logits.append(x)
        values.append(v)
    for found, expected in zip((logits, values), jax.jit(model)(INPUTS), strict=True):
        np.testing.assert_allclose(jnp.stack(found, axis=1), expected, rtol=1e-5, atol=1e-5)


@each
def test_no_step_depends_on_a_later_one_and_each_on_all_before(model):
    model = MODELS[model]()
    outputs = lambda x: jnp.sum(model(x)[0], axis=(0, 2))
    seen = np.abs(jax.jit(jax.jacrev(outputs))(INPUTS)).sum((1, 3))  # [T, T]
    np.testing.assert_array_equal(np.triu(seen, 1), 0.0)
    assert np.all(seen[np.tril_indices(T)] > 0)


@pytest.mark.parametrize("longest", [2, 3, 8, 9, 100, 250, 1000])
def test_one_tc_block_sees_the_whole_sequence_and_not_twice_as_much(longest):
    """Its receptive field, one step of every dilation and the present one."""
    body = nnx.eval_shape(lambda: Body(width=1, blocks="TC(1)", longest=longest, key=KEY))
    field = 1 + sum(block.dilation for block in body.blocks)
    assert longest <= field < 2 * longest


def test_convolutions_alone_reach_the_first_step():
    body = Body(width=1, blocks="TC(2)", longest=16, key=KEY)
    x = jax.random.normal(KEY, (1, 16, 1))
    seen = jax.grad(lambda x: jnp.sum(body(x)[0][0, -1, 1:]))(x)
    assert np.all(np.abs(seen) > 0)


def test_a_dense_block_by_its_equation():
    """`[x_t, tanh(W0 x_{t-R} + W1 x_t + b) * sigmoid(V0 x_{t-R} + V1 x_t + c)]`."""
    block = shaken(DenseBlock(CHANNELS, 2, dilation=3, key=KEY))
    kernel = np.asarray(block.kernel[...]).reshape(
        CHANNELS, 2, 2, 2
    )  # past or present; filter or gate
    bias, x = np.asarray(block.bias[...]).reshape(2, 2), np.asarray(INPUTS)
    for t in range(T):
        before = x[:, t - 3] if t >= 3 else np.zeros_like(x[:, 0])
        f, g = (before @ kernel[:, 0, i] + x[:, t] @ kernel[:, 1, i] + bias[i] for i in (0, 1))
        expected = np.concatenate([x[:, t], np.tanh(f) / (1 + np.exp(-g))], axis=-1)
        np.testing.assert_allclose(block(INPUTS)[:, t], expected, rtol=1e-5, atol=1e-6)


def test_an_attention_block_by_its_equation():
    block = shaken(AttentionBlock(CHANNELS, 4, 2, longest=T, key=KEY))
    outputs, weights = block(INPUTS)
    said = np.asarray(INPUTS @ block.kernel[...] + block.bias[...])
    q, k, v = said[..., :4], said[..., 4:8], said[..., 8:]
    for t in range(T):
        logits = np.einsum("bk,bsk->bs", q[:, t], k[:, : t + 1]) / 2.0
        chances = np.exp(logits) / np.exp(logits).sum(-1, keepdims=True)
        np.testing.assert_allclose(weights[:, t, : t + 1], chances, rtol=1e-5, atol=1e-6)
        contexts = np.einsum("bs,bsv->bv", chances, v[:, : t + 1])
        np.testing.assert_allclose(outputs[:, t, CHANNELS:], contexts, rtol=1e-4, atol=1e-5)


def test_the_widths_are_those_of_the_paper():
    """Each dense block adds its filters, an attention block its values; ceil(log2 T) of them."""
    blocks = "Att(64,32) TC(128) Att(256,128) TC(128) Att(512,256)"  # of few-shot classification
    body = nnx.eval_shape(lambda: Body(width=69, blocks=blocks, longest=26, key=KEY))
    assert body.width == 69 + 32 + 5 * 128 + 128 + 5 * 128 + 256


@each
def test_gradients_reach_every_weight(model):
    graphdef, params = nnx.split(MODELS[model]())
    loss = lambda params: sum(jnp.sum(y**2) for y in nnx.merge(graphdef, params)(INPUTS))
    for path, gradient in nnx.to_flat_state(jax.jit(jax.grad(loss))(params)):
        assert jnp.all(jnp.isfinite(gradient[...])) and jnp.any(gradient[...] != 0), path


def test_a_step_costs_what_is_new():
    """A convolution costs the same however far it looks; attention grows by keys and values."""

    def cost(model, longest):
        cache = jax.eval_shape(partial(model.init_cache, B))
        step = jax.jit(model.step).lower(jnp.zeros((B, CHANNELS)), cache)
        return step.cost_analysis()["flops"]

    def body(longest, blocks):
        # Not more convolutions for longer sequences, which would be another network.
        sizes = {"embedding": 5, "blocks": blocks, "longest": longest}
        return SNAIL(**sizes, **SIZES)

    short, long = (cost(body(n, "Att(4,2)"), n) for n in (64, 128))
    assert long - short <= 64 * B * (2 * 4 + 2 * 2 + 16)  # products, and a softmax of a few each
    dense = [DenseBlock(CHANNELS, 2, dilation=dilation, key=KEY) for dilation in (4, 4096)]
    costs = [
        jax.jit(block.step)
        .lower(jnp.zeros((B, CHANNELS)), block.init_cache(B), jnp.int32(0))
        .cost_analysis()["flops"]
        for block in dense
    ]
    assert costs[0] == costs[1]


@pytest.mark.parametrize(
    "blocks", ["TC", "TC(3,4)", "Att(32)", "TC(8),TC(8)", "Conv(3)", "Att(3, 4)"]
)
def test_blocks_that_there_are_not_are_a_sentence(blocks):
    with pytest.raises(ValueError, match="blocks must be like"):
        parse(blocks)
