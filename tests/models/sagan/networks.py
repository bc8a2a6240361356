"""Networks of the self-attention GAN for tests, and counts of their weights."""

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from models.sagan import Generator

LATENT_SIZE = 128
TINY = {"resolution": 16, "width": 8, "classes": 3, "attention_resolution": 8, "channels": 1}


def abstract_network(kind, **changes):
    """Create the shapes of a network, by default of the paper's size at 128 x 128."""
    arguments = {
        "resolution": 128,
        "channels": 3,
        "width": 64,
        "classes": 1000,
        "attention": "self",
        "attention_resolution": 32,
        "dtype": "float32",
    }
    arguments |= {"latent_size": LATENT_SIZE} if kind is Generator else {}
    arguments |= changes
    return nnx.eval_shape(lambda: kind(**arguments, key=jax.random.key(0)))


def random_network(kind, **changes):
    """Create a graph definition and parameters from NumPy, without compilation."""
    rng = np.random.default_rng(0)
    graphdef, params = nnx.split(abstract_network(kind, **changes))
    sample = lambda x: jnp.asarray(0.3 * rng.normal(size=x.shape), x.dtype)
    return graphdef, jax.tree.map(sample, params)


def count_weights(network):
    """Count the weights of a network."""
    return sum(x.size for x in jax.tree.leaves(nnx.state(network)))


def count_conv_weights(inputs, outputs, size=3):
    """Count the weights of a convolution with a bias."""
    return size * size * inputs * outputs + outputs


def count_attention_weights(channels):
    """Count the weights of an attention block.

    Four projections without biases (queries and keys of C/8 channels, values of C/2, output of C),
    and the gate.
    """
    return 2 * channels * channels // 8 + 2 * channels * channels // 2 + 1
