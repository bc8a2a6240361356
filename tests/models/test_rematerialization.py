"""Rematerialization: the same gradients with less memory and more products."""

from functools import cache, partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from models import Transformer
from models.layers import rematerialize
from models.snail import SNAIL
from models.transformer_layers import EncoderLayer
from tests.models.tiny import SIZES, SOURCE, TARGET, unoptimized_jit, with_random_params
from training import flops

KEY = jax.random.key(0)
SNAIL_SIZES = {"inputs": 3, "actions": 2, "embedding": 8, "blocks": "TC(8) Att(8,8) TC(8)"}


def transformer_loss(remat, tokens=(SOURCE, TARGET), **sizes):
    """Return a function from parameters to a loss with dropout, and the parameters."""
    sizes = SIZES | {"encoder_layers": 2, "dropout": 0.1, "remat": remat} | sizes
    graphdef, params = nnx.split(Transformer(**sizes, key=KEY))
    return lambda params: jnp.sin(nnx.merge(graphdef, params)(*tokens, KEY)[0]).sum(), params


def snail_loss(remat, batch=2, length=16):
    create = partial(SNAIL, **SNAIL_SIZES, max_length=length, remat=remat, key=KEY)
    graphdef, params = nnx.split(with_random_params(create))
    x = jax.random.normal(KEY, (batch, length, SNAIL_SIZES["inputs"]))
    loss = lambda logits, values: jnp.sin(logits).sum() + jnp.sin(values).sum()
    return lambda params: loss(*nnx.merge(graphdef, params)(x)), params


@cache
def gradient_flops(make_loss, remat):
    loss, params = make_loss(remat)
    return flops.count(jax.make_jaxpr(jax.grad(loss))(params))


def test_gradients_of_a_rematerialized_layer_are_equal():
    """The dropout masks of the second computation are those of the first."""
    layer = with_random_params(lambda: EncoderLayer(4, 2, 2, 2, 6, "post", 0.5, key=KEY))
    graphdef, params = nnx.split(layer)
    x, mask = jax.random.normal(KEY, (2, 3, 4)), jnp.ones((2, 1, 1, 3), bool)

    def loss(params, x, remat):
        apply = rematerialize(nnx.merge(graphdef, params), remat)
        return jnp.sin(apply(x, mask, key=KEY)[0]).sum()

    @unoptimized_jit
    def gradients(*args):
        policies = ("none", "dots", "full")
        return [jax.grad(partial(loss, remat=remat), (0, 1))(*args) for remat in policies]

    expected, *others = map(jax.tree.leaves, gradients(params, x))
    assert all(np.any(x != 0) for x in expected)
    for other in others:
        jax.tree.map(partial(np.testing.assert_allclose, rtol=1e-5, atol=1e-6), other, expected)


@pytest.mark.parametrize("make_loss", [transformer_loss, snail_loss])
def test_dots_recomputes_fewer_products_than_full(make_loss):
    none, dots, full = (gradient_flops(make_loss, remat) for remat in ("none", "dots", "full"))
    assert none < dots < full < 4 / 3 * none


@pytest.mark.usefixtures("disable_type_checks")
@pytest.mark.parametrize("make_loss", [transformer_loss, snail_loss])
def test_unknown_policy_is_rejected(make_loss):
    with pytest.raises(ValueError, match="remat must be 'none', 'dots' or 'full', not 'all'"):
        make_loss("all")


@pytest.mark.slow
@pytest.mark.parametrize("make_loss", [transformer_loss, snail_loss])
@pytest.mark.parametrize("remat", ["dots", "full"])
def test_gradients_of_rematerialized_models_are_equal(make_loss, remat):
    (plain, params), (rematerialized, _) = make_loss("none"), make_loss(remat)
    expected, actual = (unoptimized_jit(jax.grad(x))(params) for x in (plain, rematerialized))
    compare = partial(np.testing.assert_allclose, rtol=1e-4, atol=1e-5)
    jax.tree.map(compare, jax.tree.leaves(actual), jax.tree.leaves(expected))


def temporary_bytes(loss, params):
    analysis = jax.jit(jax.grad(loss)).lower(params).compile().memory_analysis()
    return analysis.temp_size_in_bytes


@pytest.mark.slow
def test_memory_of_a_transformer_falls_from_none_to_dots_to_full():
    tokens = (jnp.ones((4, 128), int), jnp.ones((4, 128), int))
    sizes = {"encoder_layers": 6, "decoder_layers": 1, "width": 32, "hidden": 64}
    none, dots, full = (
        temporary_bytes(*transformer_loss(remat, tokens, **sizes))
        for remat in ("none", "dots", "full")
    )
    assert full < dots < none
    assert full < none / 2


@pytest.mark.slow
def test_memory_of_snail_falls_from_none_to_full():
    none, full = (temporary_bytes(*snail_loss(x, batch=8, length=128)) for x in ("none", "full"))
    assert full < none
