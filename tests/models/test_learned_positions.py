"""Learned positions of the Transformer (Vaswani et al. 2017, Table 3, row E)."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from models.layers import sinusoids
from tasks.translation.decoding import check_positions
from tests.models.tiny import SIZES, SOURCE, TARGET, run, transformer, unoptimized_jit
from training.errors import UserError

LENGTH = 9


@pytest.fixture(scope="module")
def models():
    """Return the tiny Transformer, and one with the sinusoids as learned positions."""
    graphdef, params = transformer()
    learned = nnx.merge(*transformer(positions="learned", max_length=LENGTH))
    nnx.update(learned, params)
    learned.positions[...] = jnp.stack([sinusoids(LENGTH, SIZES["width"])] * 2)
    return (graphdef, params), nnx.split(learned)


def test_learned_sinusoids_give_the_logits_of_sinusoids(models):
    plain, learned = models
    expected = run(*plain, SOURCE, TARGET)[0]
    np.testing.assert_allclose(run(*learned, SOURCE, TARGET)[0], expected, atol=1e-5)


@pytest.mark.parametrize("stack, first", [(0, 0), (1, 2)])
def test_encoder_and_decoder_have_their_own_positions(models, stack, first):
    """Another vector at position 2 changes all logits through the source, or those from 2 on."""
    graphdef, params = models[1]
    expected = run(graphdef, params, SOURCE, TARGET)[0]
    model = nnx.merge(graphdef, jax.tree.map(jnp.array, params))
    model.positions[...] = model.positions[...].at[stack, 2, 1].add(1.0)
    found = run(graphdef, nnx.state(model), SOURCE, TARGET)[0]
    changed = (abs(found - expected) > 1e-5).any(-1)[0]
    assert changed.tolist() == [t >= first for t in range(TARGET.shape[1])]


def test_cached_step_adds_the_position_of_the_decoder(models):
    def step(graphdef, params):
        model = nnx.merge(graphdef, params)
        memory, _ = model.encode(SOURCE)
        cache = model.init_cache(memory, 1, LENGTH)
        return model.decode_step(TARGET[:, :1], cache, memory, jnp.int32(3))[0]

    plain, learned = (
        unoptimized_jit(lambda params, graphdef=graphdef: step(graphdef, params))(params)
        for graphdef, params in models
    )
    np.testing.assert_allclose(learned, plain, atol=1e-5)


def test_too_few_positions_are_an_error(models):
    model = nnx.merge(*models[1])
    with pytest.raises(ValueError, match="10 positions exceed max_length=9"):
        model.encode(jnp.ones((1, 10), jnp.int32))


@pytest.mark.usefixtures("disable_type_checks")
def test_unknown_positions_are_an_error():
    with pytest.raises(ValueError, match="positions must be 'sinusoidal' or 'learned'"):
        transformer(positions="sinusodal")


def test_longest_sequence_must_have_a_position():
    """Sinusoids exist for every position."""
    for model in ({"positions": "sinusoidal", "max_length": 0}, {"dropout": 0.1}):
        check_positions(model, 300, 306)
    check_positions({"positions": "learned", "max_length": 306}, 300, 306)
    with pytest.raises(UserError, match="model.max_length=305 is less .* set it to 306 or more"):
        check_positions({"positions": "learned", "max_length": 305}, 300, 306)
