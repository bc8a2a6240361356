"""Tests of `models.sagan.generator`."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from models.sagan import Discriminator, Generator
from tests.commands import fast_compilation
from tests.models.sagan.networks import (
    LATENT_SIZE,
    TINY,
    abstract_network,
    count_attention_weights,
    count_conv_weights,
    count_weights,
    random_network,
)


def count_reference_weights(width, classes):
    """Weights of generator.py and the conditional batch norm of google/self-attention-gan."""
    total, inputs = (LATENT_SIZE + 1) * 16 * 16 * width, 16 * width
    for outputs in (16 * width, 8 * width, 4 * width, 2 * width, width):
        norms = 2 * classes * (inputs + outputs)
        convs = count_conv_weights(inputs, outputs) + count_conv_weights(outputs, outputs)
        total += norms + convs + count_conv_weights(inputs, outputs, 1)
        inputs = outputs
    return total + 2 * width + count_conv_weights(width, 3)


def test_number_of_weights_at_128_equals_the_authors_code():
    """Attention is at 32 x 32, the default of the authors' code."""
    count = count_weights(abstract_network(Generator))
    assert (
        count == count_reference_weights(64, 1000) + count_attention_weights(4 * 64) == 42_078_852
    )


@pytest.mark.parametrize(("resolution", "classes"), [(32, 10), (64, 0), (128, 10)])
def test_both_networks_have_the_expected_output_shapes(resolution, classes):
    sizes = {"resolution": resolution, "classes": classes, "width": 8, "attention_resolution": 16}
    generator, discriminator = (
        abstract_network(kind, **sizes) for kind in (Generator, Discriminator)
    )
    labels = jnp.zeros(2, jnp.int32) if classes else None
    latents = jax.ShapeDtypeStruct((2, LATENT_SIZE), jnp.float32)
    output = jax.eval_shape(lambda g, z: g(z, labels), generator, latents)
    assert output.images.shape == (2, resolution, resolution, 3)
    assert output.attention.shape == (2, 256, 64)
    assert len(output.moments) == 2 * (resolution.bit_length() - 3) + 1
    scores = jax.eval_shape(lambda d, x: d(x, labels), discriminator, output.images)
    assert scores.shape == (2,)


def test_attention_has_no_effect_while_its_gate_is_zero():
    rng, labels = np.random.default_rng(0), jnp.array([0, 1, 2, 0])
    latents = jnp.asarray(rng.normal(size=(4, LATENT_SIZE)), jnp.float32)
    graphdef, params = random_network(Generator, **TINY)
    graphdef_without, _ = nnx.split(abstract_network(Generator, **TINY | {"attention": "none"}))

    @jax.jit
    def generate(params, gate):
        params["non_local"]["gate"][...] = gate
        rest = nnx.from_flat_state(
            [(path, x) for path, x in nnx.to_flat_state(params) if path[0] != "non_local"]
        )
        return [
            nnx.merge(graphdef, params)(latents, labels).images,
            nnx.merge(graphdef_without, rest)(latents, labels).images,
        ]

    with fast_compilation():
        zero_gate, expected = generate(params, jnp.float32(0))
    unit_gate, _ = generate(params, jnp.float32(1))
    np.testing.assert_allclose(zero_gate, expected, rtol=1e-5, atol=1e-6)
    assert np.abs(unit_gate - expected).max() > 1e-3


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"resolution": 48}, "resolution must be 8, 16, 32 and so on, not 48"),
        ({"attention_resolution": 12}, "the resolution of a generator map, one of 8, 16, not 12"),
        ({"attention": "selfish"}, "attention must be one of none, self, residual"),
        ({"width": 3}, "self-attention needs a multiple of 8 channels, not 6"),
    ],
)
def test_invalid_arguments_are_rejected(change, message, disable_type_checks):
    with pytest.raises(ValueError, match=message):
        abstract_network(Generator, **TINY | change)
