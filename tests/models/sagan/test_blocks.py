"""Tests of `models.sagan.blocks`."""

import jax
from flax import nnx

from models.sagan.blocks import ResidualBlock, SelfAttention
from tests.models.sagan.networks import count_weights


def test_residual_control_has_as_many_weights_as_attention():
    """The counts differ by the biases and the rounded channel count of the residual block."""
    for channels in (64, 128, 256):
        blocks = [
            nnx.eval_shape(lambda k=kind, c=channels: k(c, key=jax.random.key(0)))
            for kind in (ResidualBlock, SelfAttention)
        ]
        residual, attention = map(count_weights, blocks)
        assert abs(residual - attention) < 0.15 * attention
