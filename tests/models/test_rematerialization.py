"""Rematerialization: the same gradients with less memory and more products."""

from functools import cache, partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from models import Transformer
from models.snail import SNAIL
from tests.models.tiny import SIZES, SOURCE, TARGET, unoptimized_jit, with_random_params
from training import flops

KEY = jax.random.key(0)
SNAIL_SIZES = {"inputs": 3, "actions": 2, "embedding": 8, "blocks": "TC(8) Att(8,8) TC(8)"}


def transformer_loss(remat, initialize=nnx.eval_shape):
    """Return a function from parameters to a loss with dropout, and the parameters or shapes."""
    sizes = SIZES | {"encoder_layers": 2, "dropout": 0.1, "remat": remat}
    graphdef, params = nnx.split(initialize(partial(Transformer, **sizes, key=KEY)))
    model = lambda params: nnx.merge(graphdef, params)(SOURCE, TARGET, KEY)[0]
    return lambda params: jnp.sin(model(params)).sum(), params


def snail_loss(remat, initialize=nnx.eval_shape):
    create = partial(SNAIL, **SNAIL_SIZES, max_length=16, remat=remat, key=KEY)
    graphdef, params = nnx.split(initialize(create))
    x = jax.random.normal(KEY, (2, 16, SNAIL_SIZES["inputs"]))
    loss = lambda logits, values: jnp.sin(logits).sum() + jnp.sin(values).sum()
    return lambda params: loss(*nnx.merge(graphdef, params)(x)), params


@cache
def gradient_flops(make_loss, remat):
    loss, params = make_loss(remat)
    return flops.count(jax.make_jaxpr(jax.grad(loss))(params))


@pytest.mark.slow
@pytest.mark.parametrize("make_loss", [transformer_loss, snail_loss])
def test_dots_recomputes_fewer_products_than_full(make_loss):
    none, dots, full = (gradient_flops(make_loss, remat) for remat in ("none", "dots", "full"))
    assert none < dots < full < 4 / 3 * none


@pytest.mark.usefixtures("disable_type_checks")
@pytest.mark.parametrize("make_loss", [transformer_loss, snail_loss])
def test_unknown_policy_is_rejected(make_loss):
    with pytest.raises(ValueError, match="remat must be 'none', 'dots' or 'full', not 'all'"):
        make_loss("all")


@pytest.mark.parametrize("make_loss", [transformer_loss, snail_loss])
def test_backward_pass_stores_less_with_dots_and_least_with_full(make_loss):
    """The leaves of a VJP function are the arrays that the forward pass stores.

    The memory of the compiled program is no measure on a CPU, where XLA merges the second
    computation with the first one.
    """

    def stored_bytes(remat):
        loss, params = make_loss(remat)
        vjp = jax.eval_shape(lambda params: jax.vjp(loss, params)[1], params)
        return sum(x.size * x.dtype.itemsize for x in jax.tree.leaves(vjp))

    none, dots, full = map(stored_bytes, ("none", "dots", "full"))
    assert full < dots < none


@pytest.mark.slow
@pytest.mark.parametrize("make_loss", [transformer_loss, snail_loss])
@pytest.mark.parametrize("remat", ["dots", "full"])
def test_gradients_of_rematerialized_models_are_equal(make_loss, remat):
    """The dropout masks of the second computation are those of the first."""
    (plain, params), (rematerialized, _) = make_loss("none", with_random_params), make_loss(remat)
    expected, actual = (unoptimized_jit(jax.grad(x))(params) for x in (plain, rematerialized))
    compare = partial(np.testing.assert_allclose, rtol=1e-4, atol=1e-5)
    jax.tree.map(compare, jax.tree.leaves(actual), jax.tree.leaves(expected))
