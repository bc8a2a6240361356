"""Spectral normalisation: weights divided by their largest singular value.

Source: Miyato et al. 2018, "Spectral Normalization for Generative Adversarial Networks". It is a
function of a model's weights, before the model sees them: a model only marks which of its weights
are meant. The vectors by which the singular values are found go in and come out.
"""

import itertools

import jax
import jax.numpy as jnp
from flax import nnx
from jax import lax
from jaxtyping import Array, Float, PRNGKeyArray

Vectors = dict[str, Float[Array, " C"]]


def kernel(value: Float[Array, "*K C"], axes: tuple[str | None, ...]) -> nnx.Param:
    """A weight that is to be normalised, as a matrix `[everything else, C]`."""
    return nnx.Param(value, axes=axes, spectral=True)


def power_iteration(
    matrix: Float[Array, "K C"], vector: Float[Array, " C"]
) -> tuple[Float[Array, ""], Float[Array, " C"]]:
    """An estimate of the largest singular value, and a better right singular vector.

    Source: Miyato et al. 2018, alg. 1: one iteration at every use of the weights. The gradient of
    the estimate is that of `v · W u` with both vectors held fixed, which at the true ones is the
    gradient of the singular value.

    Args:
        matrix: W.
        vector: u, from the use before.
    """
    fixed = lax.stop_gradient(matrix)
    left = _unit(fixed @ vector)
    vector = _unit(left @ fixed)
    return left @ matrix @ vector, vector


def start(params: nnx.State, key: PRNGKeyArray) -> Vectors:
    """A random vector for each weight that is to be normalised."""
    widths = {name: variable.shape[-1] for name, variable in _marked(params).items()}
    # One draw for all: a generator takes longer to compile than everything around it.
    drawn = jax.random.normal(key, (sum(widths.values()),))
    ends = list(itertools.accumulate(widths.values()))
    return dict(zip(widths, map(_unit, jnp.split(drawn, ends[:-1])), strict=True))


def normalise(params: nnx.State, vectors: Vectors) -> tuple[nnx.State, Vectors]:
    """The weights, those that are marked divided by their singular value; and the new vectors."""
    divided, moved = {}, {}
    for name, variable in _marked(params).items():
        value = variable[...]
        matrix = value.reshape(-1, value.shape[-1])
        norm, moved[name] = power_iteration(matrix, vectors[name])
        divided[name] = variable.replace(value / norm)
    flat = [
        (path, divided.get(_name(path), variable)) for path, variable in nnx.to_flat_state(params)
    ]
    return nnx.from_flat_state(flat), moved


def _marked(params):
    return {
        _name(path): variable
        for path, variable in nnx.to_flat_state(params)
        if variable.get_metadata().get("spectral")
    }


def _name(path):
    return "/".join(map(str, path))


def _unit(x, epsilon=1e-12):
    return x / (jnp.linalg.norm(x) + epsilon)
