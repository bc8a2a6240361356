"""The self-attention GAN: its sizes beside those of the authors' code, and what its parts see."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from models.sagan.networks import Discriminator, Generator, ResidualBlock, SelfAttention
from tests.commands import fast_compilation

KEY, RNG = jax.random.key(0), np.random.default_rng(0)
CLASSES, LATENT = 1000, 128


def sizes(resolution=128, width=64, classes=CLASSES, attention="self", feature=32, channels=3):
    return {
        "resolution": resolution,
        "channels": channels,
        "width": width,
        "classes": classes,
        "attention": attention,
        "feature": feature,
        "dtype": "float32",
    }


def abstract(kind, **changes):
    more = {"latent": LATENT} if kind is Generator else {}
    return nnx.eval_shape(lambda: kind(**sizes(**changes), **more, key=KEY))


def filled(kind, **changes):
    """With weights from NumPy, whose generator need not be compiled."""
    graphdef, params = nnx.split(abstract(kind, **changes))
    draw = lambda x: jnp.asarray(0.3 * RNG.normal(size=x.shape), x.dtype)
    return graphdef, jax.tree.map(draw, params)


def count(model):
    return sum(x.size for x in jax.tree.leaves(nnx.state(model)))


def conv(into, out, size=3):
    return size * size * into * out + out


def attention(channels):
    """Four products without biases (two of C/8, one of C/2, one back) and the gate."""
    return 2 * channels * channels // 8 + 2 * channels * channels // 2 + 1


def authors_generator(width, classes, latent):
    """As google/self-attention-gan's generator.py and its conditional batch norm add up."""
    total, into = (latent + 1) * 16 * 16 * width, 16 * width
    for out in (16 * width, 8 * width, 4 * width, 2 * width, width):
        norms = 2 * classes * (into + out)
        total += norms + conv(into, out) + conv(out, out) + conv(into, out, 1)
        into = out
    return total + 2 * width + conv(width, 3)


def authors_discriminator(width, classes):
    """As discriminator.py adds up; the last block has no shortcut."""
    total, into = 0, 3
    for out in (width, 2 * width, 4 * width, 8 * width, 16 * width):
        total += conv(into, out) + conv(out, out) + conv(into, out, 1)
        into = out
    total += 2 * conv(into, into)
    return total + into + 1 + classes * into


def test_at_128_the_networks_are_the_authors():
    """With attention at 32 x 32, the default of the authors' code."""
    generator, discriminator = abstract(Generator), abstract(Discriminator)
    assert count(generator) == authors_generator(64, CLASSES, LATENT) + attention(4 * 64)
    assert count(discriminator) == authors_discriminator(64, CLASSES) + attention(2 * 64)
    assert (count(generator), count(discriminator)) == (42_078_852, 39_463_618)


def test_the_control_has_as_many_weights_as_attention():
    """To the rounding of its channels, and its biases."""
    for channels in (64, 128, 256):
        ours = count(nnx.eval_shape(lambda c=channels: ResidualBlock(c, key=KEY)))
        theirs = count(nnx.eval_shape(lambda c=channels: SelfAttention(c, key=KEY)))
        assert abs(ours - theirs) < 0.15 * theirs


@pytest.mark.parametrize("resolution", [32, 64, 128])
@pytest.mark.parametrize("classes", [0, 10])
def test_depth_follows_the_resolution(resolution, classes):
    changes = {"resolution": resolution, "classes": classes, "width": 8, "feature": 16}
    generator, discriminator = abstract(Generator, **changes), abstract(Discriminator, **changes)
    labels = jnp.zeros(2, jnp.int32) if classes else None
    drawn = jax.eval_shape(lambda g, z: g(z, labels), generator, jnp.zeros((2, LATENT)))
    assert drawn.images.shape == (2, resolution, resolution, 3)
    assert drawn.attention.shape == (2, 256, 64)
    assert len(drawn.moments) == 2 * (resolution.bit_length() - 3) + 1
    scores = jax.eval_shape(lambda d, x: d(x, labels), discriminator, drawn.images)
    assert scores.shape == (2,)


TINY = {"resolution": 16, "width": 8, "classes": 3, "feature": 8, "channels": 1}


def test_with_its_gate_at_zero_the_generator_is_one_without_attention():
    """And another once the gate is open."""
    z, labels = jnp.asarray(RNG.normal(size=(4, LATENT)), jnp.float32), jnp.array([0, 1, 2, 0])
    graphdef, params = filled(Generator, **TINY)
    without, _ = nnx.split(abstract(Generator, **TINY | {"attention": "none"}))

    @jax.jit
    def draw(params, gate):
        params["middle"]["gate"][...] = gate
        rest = nnx.from_flat_state(
            [(path, x) for path, x in nnx.to_flat_state(params) if path[0] != "middle"]
        )
        return nnx.merge(graphdef, params)(z, labels).images, nnx.merge(without, rest)(
            z, labels
        ).images

    with fast_compilation():
        closed, expected = draw(params, jnp.float32(0))
    opened, _ = draw(params, jnp.float32(1))
    np.testing.assert_allclose(closed, expected, rtol=1e-5, atol=1e-6)
    assert np.abs(opened - expected).max() > 1e-3


def test_the_score_is_a_projection_on_the_class():
    """`φ · (w + v_y) + b`: of one image, the scores of two classes differ by `φ · (v_y - v_y')`."""
    x = jnp.asarray(np.repeat(RNG.normal(size=(1, 16, 16, 1)), 3, axis=0), jnp.float32)
    graphdef, params = filled(Discriminator, **TINY)
    score = jax.jit(lambda params: nnx.merge(graphdef, params)(x, jnp.arange(3)))
    with fast_compilation():
        found = score(params)
    table = params["embedding"][...]
    params["embedding"][...] = table.at[1].set(table[0]).at[2].set(2 * table[1] - table[0])
    told = score(params)
    np.testing.assert_allclose(told[1], found[0], rtol=1e-5)
    np.testing.assert_allclose(told[2], 2 * found[1] - found[0], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"resolution": 48}, "resolution must be 8, 16, 32 and so on, not 48"),
        ({"feature": 12}, "feature must be one of the generator's maps, 8, 16, not 12"),
        ({"attention": "selfish"}, "attention must be one of none, self, residual"),
        ({"width": 3}, "attention needs a multiple of 8 channels, and there are 6"),
    ],
)
def test_what_cannot_be_is_a_sentence(wrong, said, unchecked):
    with pytest.raises(ValueError, match=said):
        abstract(Generator, **TINY | wrong)
